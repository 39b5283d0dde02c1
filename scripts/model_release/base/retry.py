"""How long something may take, and when it is tried again: one policy for every server we talk to."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import TypeVar

from model_release.base.progress import Progress

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a server in trouble: https://www.rfc-editor.org/rfc/rfc9110#name-status-codes"""

_T = TypeVar("_T")


class TransientError(Exception):
    """A failure that may pass: another attempt may succeed.

    It is no `ReleaseError`, so that nothing on its way takes it for the end.

    Attributes:
        reason: What happened, in a few words.
        wait_s: The wait that the server asks for; None leaves it to `RetryPolicy`.
        least_s: Waited on top of what `RetryPolicy` says, where no other wait is asked for.
    """

    def __init__(self, reason: str, wait_s: float | None = None, *, least_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait_s, self.least_s = reason, wait_s, least_s


class RetriesExhaustedError(Exception):
    """Every attempt failed, or the next one would come too late.

    Attributes:
        reason: What happened at the last one.
        attempts: How many there were.
    """

    def __init__(self, reason: str, attempts: int) -> None:
        super().__init__(reason)
        self.reason, self.attempts = reason, attempts


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a server may take.

    Attributes:
        attempts: Tries before giving up.
        request_timeout_s: Longest silence within one request.
        total_timeout_s: Bound on everything, waits included.
        base_wait_s: Wait after the first failure; it doubles from one to the next.
        cap_wait_s: Where the doubling ends.
        longest_wait_s: Longest wait a server may ask for.
        sleep: Waits that many seconds; tests put their own here.
        jitter: A number from 0 to 1; it spreads retries of parallel jobs.
    """

    attempts: int = 5
    request_timeout_s: float = 10.0
    total_timeout_s: float = 3600.0
    base_wait_s: float = 2.0
    cap_wait_s: float = 30.0
    longest_wait_s: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def deadline(self) -> float:
        """When a work that starts now must have ended, on the clock of `time.monotonic`."""
        return time.monotonic() + self.total_timeout_s

    def wait_s(self, attempt: int, failure: TransientError) -> float:
        """How long to wait after a failed attempt, counted from 1."""
        if failure.wait_s is not None:
            return failure.wait_s
        backoff_s = min(self.base_wait_s * 2.0 ** (attempt - 1), self.cap_wait_s)
        return failure.least_s + backoff_s * (1.0 + self.jitter()) / 2.0


def retry_after_s(text: str) -> float | None:
    """The wait that a server's Retry-After asks for, in seconds or until a date; None if it asks for none.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if re.fullmatch("[0-9]{1,15}", text):
        return float(text)
    until = parsedate_tz(text) if text.endswith(" GMT") else None
    try:
        return None if until is None else max(0.0, mktime_tz(until) - time.time())
    except (ValueError, OverflowError):
        return None


def retry(
    attempt: Callable[[], _T],
    retry_policy: RetryPolicy,
    notice: Progress,
    *,
    deadline: float | None = None,
) -> _T:
    """Makes attempts until one works, or fails for good, or the policy gives up.

    Args:
        attempt: Raises `TransientError` for a failure that may pass; anything else ends it.
        retry_policy: How often and how long.
        notice: Told before each wait.
        deadline: When to stop, if it is not to count from now; see `RetryPolicy.deadline`.

    Raises:
        RetriesExhaustedError: The policy gave up.
    """
    deadline = retry_policy.deadline() if deadline is None else deadline
    number = 1
    while True:
        try:
            return attempt()
        except TransientError as failure:
            wait_s, reason, cause = retry_policy.wait_s(number, failure), failure.reason, failure
        if number >= retry_policy.attempts:
            raise RetriesExhaustedError(reason, number) from cause
        if wait_s > retry_policy.longest_wait_s or time.monotonic() + wait_s > deadline:
            reason += f"; the next attempt would be in {wait_s:.0f} s, which is too late"
            raise RetriesExhaustedError(reason, number) from cause
        number += 1
        notice(f"{reason[:120]}; attempt {number} in {wait_s:.1f} s")
        retry_policy.sleep(wait_s)
