"""Commands under act wait for nothing: their pauses between requests and attempts are GitHub's to want, not ours."""

import time

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.002))
