"""How often something is tried again, and what is not."""

from email.utils import formatdate
from unittest import mock

import github
import pytest

from model_release.base import github_client
from model_release.base.errors import HostError
from model_release.base.retry import RetriesExhaustedError, RetryPolicy, TransientError, retry, retry_after_s


def test_patience_doubles_its_waits_and_ends() -> None:
    waits: list[float] = []

    def failing() -> None:
        raise TransientError("no luck")

    retry_policy = RetryPolicy(attempts=7, sleep=waits.append, jitter=lambda: 1.0)
    with pytest.raises(RetriesExhaustedError) as caught:
        retry(failing, retry_policy, lambda _: None)
    assert (waits, caught.value.attempts) == ([2.0, 4.0, 8.0, 16.0, 30.0, 30.0], 7)


def test_what_is_refused_for_good_is_asked_once() -> None:
    calls = []

    def refused() -> None:
        calls.append(1)
        raise github.GithubException(422, {"message": "Validation Failed", "errors": [{"field": "x", "code": "bad"}]})

    with pytest.raises(HostError, match="got 422 Validation Failed, x bad"):
        github_client.with_retries(refused)
    assert calls == [1]


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(1_000_000 - 60, usegmt=True), 0.0),
        ("", None),
        ("-1", None),
        ("soon GMT", None),
        ("Wed, 99 Oct 9999999999 07:28:00 GMT", None),
        ("9" * 400, None),
    ],
)
def test_a_server_asks_for_seconds_or_for_a_date(text: str, wait_s: float | None) -> None:
    with mock.patch("time.time", return_value=1_000_000.0):
        assert retry_after_s(text) == wait_s
