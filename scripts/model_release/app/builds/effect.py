"""What a line of a file does to a variable or to an env file, and when that counts."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something that a line of a file does.

    Attributes:
        line: Where, from 1.
        file: The file that is written; empty where a variable is set for the programs that follow.
        value: What the key is set to; None where it is not, or where that cannot be told.
        is_known: Whether all that is written can be told.
        replaces: Whether all that was in the file is gone.
        mode: The mode that Vite is told to build with, in place of all that.
        problem: All that there is to say, where it is not about a value.
    """

    line: int
    file: str = ""
    value: str | None = None
    is_known: bool = False
    replaces: bool = False
    mode: str = ""
    problem: str = ""


def mode_of(file: str) -> str:
    """The mode whose builds read an env file; nothing where all do.

    >>> mode_of(".env.production.local"), mode_of(".env.local")
    ('production', '')
    """
    return file.removesuffix(".local").removeprefix(".env").removeprefix(".")


def scalar(text: str) -> str:
    """A value without quotes and comment."""
    text = text.strip()
    if quoted := re.match(r"'((?:[^']|'')*)'|\"((?:[^\"\\]|\\.)*)\"", text):
        return (quoted[1] or "").replace("''", "'") or re.sub(r"\\(.)", r"\1", quoted[2] or "")
    return re.sub(r"(?:^|(?<=\s))#.*", "", text).strip()
