"""Which faults each request of a matrix meets, for every matrix of faults; FULL_FAULT_MATRIX=1 asks for all of them."""

import os
from collections.abc import Iterable

FULL = bool(os.environ.get("FULL_FAULT_MATRIX"))
_SHARE = 4


def kinds_at(number: int, kinds: Iterable[str], *, always: str = "") -> list[str]:
    """The kinds of fault for the request of this number: all in a full matrix, else each fourth and one more.

    A program judges a kind alike at every request, and many kinds leave the same behind. So the kinds take turns:
    every request meets a fourth of them, and four requests in a row meet all.

    Args:
        number: Of the request.
        kinds: All of them.
        always: The one that every request meets: its deed is done, and nobody hears of it.
    """
    return [kind for turn, kind in enumerate(kinds) if FULL or kind == always or turn % _SHARE == number % _SHARE]
