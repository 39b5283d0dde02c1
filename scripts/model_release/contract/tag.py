"""A release's tag: text in, version out. A tag is untrusted text until `parse_tag` has returned."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering

from model_release.base.errors import UsageError
from model_release.base.text import quoted

_MAX_LENGTH = 100  # characters of a whole tag; it becomes a folder, a URL and a branch name
_NUMBER = "(?:0|[1-9][0-9]*)"
_IDENTIFIER = f"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
# https://semver.org/#backusnaur-form-grammar-for-valid-semver-versions without build metadata: "+" is
# rewritten in the URLs of release assets, and means a space in "?v=".
_TAG = re.compile(rf"model-v({_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?)")


@total_ordering
@dataclass(frozen=True, kw_only=True)
class ReleaseTag:
    """A tag that `parse_tag` has accepted; ordered by SemVer precedence.

    Without build metadata two tags of equal precedence are the same text, so equality and order agree.

    Attributes:
        text: The whole tag, e.g. "model-v1.2.3-rc.1".
        version: The SemVer version in it, e.g. "1.2.3-rc.1".
    """

    text: str
    version: str

    @property
    def major(self) -> int:
        """The first number: a new one means a breaking change of the contract."""
        return self._numbers[0]

    @property
    def minor(self) -> int:
        """The second number."""
        return self._numbers[1]

    @property
    def patch(self) -> int:
        """The third number."""
        return self._numbers[2]

    @property
    def prerelease(self) -> bool:
        """Whether the version comes before its MAJOR.MINOR.PATCH, as "1.2.3-rc.1" does."""
        return bool(self._series)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ReleaseTag):
            return NotImplemented
        return self._precedence < other._precedence

    @property
    def _numbers(self) -> list[int]:
        return [int(number) for number in self.version.partition("-")[0].split(".")]

    @property
    def _series(self) -> list[str]:
        """The dot-separated identifiers of a prerelease; none for a normal version."""
        series = self.version.partition("-")[2]
        return series.split(".") if series else []

    @property
    def _precedence(self) -> tuple[list[int], bool, list[tuple[bool, int, str]]]:
        """A sort key; https://semver.org/#spec-item-11.

        A normal version comes after its prereleases; numeric identifiers come before others and
        compare as numbers, the others in ASCII order; of two equal beginnings the longer is greater.
        """
        identifiers = [(False, int(i), "") if i.isdigit() else (True, 0, i) for i in self._series]
        return self._numbers, not self.prerelease, identifiers


def parse_tag(text: str) -> ReleaseTag:
    """Reads a tag, or refuses it before it reaches a path, a URL or a shell.

    >>> parse_tag("model-v1.2.3-rc.1").version
    '1.2.3-rc.1'

    Args:
        text: The tag as it was pushed or typed.

    Raises:
        UsageError: The tag is no "model-v" with a SemVer 2.0 version without build metadata, is longer
            than 100 characters, or ends in ".lock", which git allows in no name
            (https://git-scm.com/docs/git-check-ref-format).
    """
    match = _TAG.fullmatch(text) if len(text) <= _MAX_LENGTH and not text.endswith(".lock") else None
    if match is None:
        raise UsageError(
            "tag must be model-vMAJOR.MINOR.PATCH or model-vMAJOR.MINOR.PATCH-PRERELEASE (SemVer 2.0 without "
            f"'+', at most {_MAX_LENGTH} characters), got {quoted(text)}. Use e.g. model-v1.0.0."
        )
    return ReleaseTag(text=text, version=match[1])


def next_free(tag: ReleaseTag, taken: Iterable[str]) -> ReleaseTag:
    """Returns the next tag after `tag` that nobody has: the one to offer when `tag` is taken.

    A normal version gets the next patch number, a prerelease the next number of its series. A series
    without a number at its end gets one: "alpha" is followed by "alpha.1".

    >>> next_free(parse_tag("model-v1.0.0-rc.1"), {"model-v1.0.0-rc.2"}).text
    'model-v1.0.0-rc.3'

    Args:
        tag: Where to start.
        taken: The tags that exist, in any order. Other texts among them do no harm.

    Raises:
        UsageError: The next tag would be longer than a tag may be.
    """
    used = set(taken)
    last = tag._series[-1] if tag.prerelease else str(tag.patch)
    stem, number = (tag.text.removesuffix(last), int(last)) if last.isdigit() else (f"{tag.text}.", 0)
    number += 1
    while f"{stem}{number}" in used:
        number += 1
    return parse_tag(f"{stem}{number}")
