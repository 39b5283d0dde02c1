"""One release from start to end: build, publish, point the app at it."""
