"""Commands under act wait for nothing: their pauses between requests and attempts are GitHub's to want, not ours."""

import time
from typing import SupportsIndex

_sleep = time.sleep


def _nap(seconds: float | SupportsIndex, /) -> None:
    _sleep(min(float(seconds), 0.002))


time.sleep = _nap
