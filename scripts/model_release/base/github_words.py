"""What GitHub says when it refuses, and what that means. Statuses alone do not tell: its words must be read."""

import re
from typing import Literal

NO_PERMISSION = "not accessible by"
"""A token's permissions do not reach so far."""

EMPTY_REPOSITORY = "empty"
TOO_LARGE = "too large"

BURNED_TAG = "used by an immutable release"
"""A tag that can never be used again."""

_OVERTAKEN = ("already_exists", "already exists", "not a fast forward")

# Dependabot looks for the second to fourth of these texts for the same reason (dependabot-core, pull_request_updater).
_PROTECTED = re.compile(
    r"through a pull request|protected branch|not authorized to push|required status check|rule violations"
    r"|approv(?:ing|ed) review|protected ref",
    re.IGNORECASE,
)

_FORBIDDEN = re.compile(rf"{NO_PERMISSION}|not permitted|must have|write access", re.IGNORECASE)

Refusal = Literal["protected", "moved", "forbidden", "other"]


def words_of(answer: object) -> str:
    """What GitHub says in an answer that refuses, its list of errors included, on one line.

    >>> words_of({"message": "Validation Failed", "errors": [{"message": "No commits"}, {"field": "x", "code": "bad"}]})
    'Validation Failed, No commits, x bad'
    >>> words_of(None)
    ''
    """
    if not isinstance(answer, dict):
        return ""
    errors = answer.get("errors")
    said = [answer.get("message"), *map(_words_of_error, errors if isinstance(errors, list) else ())]
    texts = (" ".join(str(text).split()) for text in said if text)
    return ", ".join(text for text in texts if text)[:300]


def _words_of_error(error: object) -> object:
    if not isinstance(error, dict):
        return error
    return error.get("message") or " ".join(str(error[key]) for key in ("field", "code") if error.get(key))


def is_overtaken(words: str) -> bool:
    """Whether another process did the same at the same time, or our own lost request was carried out after all.

    >>> is_overtaken("Validation Failed, tag_name already_exists")
    True
    """
    return any(text in words.lower() for text in _OVERTAKEN)


def read_refusal(status: int, words: str) -> Refusal:
    """What a refused write to a branch means.

    A protected branch answers 409 (contents), 422 (refs) or 403 in words of its own; without them a 409
    or 422 says that the branch moved. Whether the branch is listed as protected says little: the token
    may be exempt, and rulesets are not listed there. A 403 may also be a rate limit, which is `other`.
    """
    if status in (403, 409, 422) and _PROTECTED.search(words):
        return "protected"
    if status in (409, 422):
        return "moved"
    return "forbidden" if status == 404 or (status == 403 and _FORBIDDEN.search(words)) else "other"
