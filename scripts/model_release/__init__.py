"""From weights to a released, verified, see-through model.

    base      Knows nothing of models: errors, files, text, retries, other people's servers.
    contract  What is promised, and whether it is kept. Pure: nothing is run or fetched.
    hosts     Where releases and their copies are put, read, and seen by a browser.
    model     PyTorch weights -> ONNX files that equal them.
    app       The web app that gets the model: its env file, tree and repository.
    browser   Chromium judges a release; pages people look at.
    release   One release from start to end: build, publish, point the app at it.
    cli       Commands, options, exit codes.

Imports go upwards only in this list; `tests/whole/test_architecture.py` holds which package may import which.
"""
