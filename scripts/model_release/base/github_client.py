"""GitHub's API through PyGithub: bounded requests, and retries of transient failures.

PyGithub's own retries repeat a POST blindly, its uploads have no timeout, and its downloads are held
in memory. Here no request is ever repeated: `with_retries` runs a whole *reconciling pass* again, which
reads before it writes. Requests go out through `_Transport`, which bounds their time.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import github
import requests
from github.GithubException import BadAttributeException
from github.Requester import (
    HTTPRequestsConnectionClass,
    HTTPSRequestsConnectionClass,
    Requester,
    RequestsResponse,
)

from model_release.base.errors import HostError, UsageError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_words import NO_PERMISSION, is_overtaken, words_of
from model_release.base.http import REDIRECTS, AddressError, resolve
from model_release.base.progress import Progress, silent
from model_release.base.retry import (
    RetriesExhaustedError,
    RetryPolicy,
    TransientError,
    retry,
    retry_after_s,
)
from model_release.base.timed_session import TimedSession

Client = github.Github

RETRY_POLICY = RetryPolicy(attempts=8, longest_wait_s=900.0, total_timeout_s=4 * 3600.0)
"""Waits out a secondary limit, but not an hourly one that was just used up."""

_T = TypeVar("_T")
_SILENCE_S = 60
_ANSWER_S = 120.0  # for a whole answer, whatever its size
_SLOWEST_BYTES_PER_S = 100_000.0
_SECONDARY_WAIT_S = 60.0  # https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
_CHUNK_BYTES = 1 << 20
_MAX_ANSWER_BYTES = 64 << 20  # A folder of a hundred thousand files is listed in half of that.
_MAX_REDIRECTS = 5


def connect(access: GitHubAccess, *, timeout_s: int = _SILENCE_S, seconds_between_writes: float = 1.0) -> Client:
    """A client that repeats nothing by itself, and whose requests all end.

    Args:
        access: The API's address, and a token for it.
        timeout_s: Longest silence within a request.
        seconds_between_writes: GitHub asks for one second
            (https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api).

    Raises:
        UsageError: There is no token.
    """
    if not access.token:
        raise UsageError(
            "GITHUB_TOKEN must be set. Use a token that may write the repository's contents; doctor.py only reads."
        )
    Requester.injectConnectionClasses(_PlainTransport, _Transport)
    return github.Github(
        base_url=access.api_url,
        auth=github.Auth.Token(access.token),
        timeout=timeout_s,
        retry=None,
        per_page=100,
        seconds_between_requests=0,
        seconds_between_writes=seconds_between_writes,
    )


def with_retries(
    attempt: Callable[[], _T],
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Progress = silent,
    *,
    what: str = "the repository",
) -> _T:
    """Runs a reconciling pass until it works: read -> plan -> write, from the start each time.

    Args:
        attempt: The pass. It may raise `TransientError` itself, to be run again.
        retry_policy: How often, and how long.
        progress: Told before each wait.
        what: What a 404 is about.

    Raises:
        HostError: GitHub refuses for good, or the policy gave up.
    """

    def one_pass() -> _T:
        try:
            return attempt()
        except github.GithubException as failure:
            raise _judged(failure, what) from failure
        except requests.RequestException as failure:
            raise _broken(failure) from failure
        except json.JSONDecodeError as failure:
            raise TransientError("an answer that is no JSON") from failure
        except BadAttributeException as failure:
            raise HostError(
                f"GitHub must answer as its API is described, got {failure.actual_value!r:.80}. Check GITHUB_API_URL."
            ) from failure
        except AssertionError as failure:  # PyGithub's only check of addresses it is given.
            raise HostError(
                f"GitHub's answers must lead to its own addresses, got one that does not ({failure!s:.80}). "
                "Check GITHUB_API_URL."
            ) from failure

    try:
        return retry(one_pass, retry_policy, lambda text: progress(f"GitHub: {text}"))
    except RetriesExhaustedError as failure:
        raise HostError(
            f"GitHub must answer, got: {failure.reason[:300]} (attempts: {failure.attempts}). "
            "Run the same command again: it goes on where this one stopped."
        ) from failure


def download(client: Client, url: str) -> Iterator[bytes]:
    """The bytes of a release asset, in pieces; to be used within `with_retries`.

    PyGithub follows redirects with the token where the host's name stays the same, and refuses other
    hosts. Here the token goes to the API alone.

    Args:
        client: From `connect`.
        url: The asset's address in the API.

    Raises:
        TransientError: The bytes stopped coming.
        github.GithubException: GitHub refuses.
    """
    auth = client.requester.auth
    headers = {"Accept": "application/octet-stream", "User-Agent": "PyGithub/Python"}
    if urlsplit(url)[:2] != urlsplit(client.requester.base_url)[:2] or auth is None:
        raise HostError("an asset's address must be the API's own. Check GITHUB_API_URL.")
    login = {"Authorization": f"{auth.token_type} {auth.token}"}
    with TimedSession() as session:
        session.deadline = time.monotonic() + _ANSWER_S
        answer = session.get(url, headers=headers | login, stream=True, timeout=_SILENCE_S)
        for _ in range(_MAX_REDIRECTS):
            if answer.status_code not in REDIRECTS:
                break
            answer.close()
            try:
                url = resolve(url, answer.headers.get("Location", ""))
            except AddressError as failure:
                raise HostError(
                    f"an asset must be where GitHub says, but its address {failure}. Try later."
                ) from failure
            answer = session.get(url, headers=headers, stream=True, timeout=_SILENCE_S)
        if answer.status_code != 200:
            message = f"download: {answer.reason[:200]}"
            raise Requester.createException(answer.status_code, dict(answer.headers), {"message": message})
        length = answer.headers.get("Content-Length", "")
        session.deadline = time.monotonic() + transfer_s(int(length) if re.fullmatch("[0-9]{1,12}", length) else 0)
        yield from _pieces(answer, session.deadline)


def transfer_s(size_bytes: int) -> float:
    """How long so many bytes may take on a slow line, in seconds."""
    return _ANSWER_S + size_bytes / _SLOWEST_BYTES_PER_S


# Transport


class _Answer(RequestsResponse):
    """An answer whose body must arrive in time, and be JSON unless it is streamed."""

    def __init__(self, answer: requests.Response, deadline: float) -> None:
        super().__init__(answer)
        self._deadline = deadline

    def read(self) -> str:
        if self.status in REDIRECTS:
            raise HostError(
                f"GitHub must answer itself, got a redirect ({self.status}). The repository may have another "
                "name now: correct --repo, or GITHUB_API_URL."
            )
        content = bytearray()
        for piece in _pieces(self.response, self._deadline):
            content += piece
            if len(content) > _MAX_ANSWER_BYTES:
                raise HostError(f"GitHub's answers must be below {_MAX_ANSWER_BYTES >> 20} MiB. Check GITHUB_API_URL.")
        body = content.decode(errors="replace")
        kind = self.headers.get("Content-Type", "")
        if self.status < 400 and body and "json" not in kind:
            raise TransientError(f"an answer that is no JSON but {kind[:40] or 'nothing known'}; see GITHUB_API_URL")
        return body


class _Transport(HTTPSRequestsConnectionClass):
    """PyGithub's connection, with a bound on the whole of every request, also to the uploads host."""

    def __init__(self, host: str, port: int | None = None, **options: Any) -> None:  # noqa: ANN401 - PyGithub's
        super().__init__(host, port, **{**options, "timeout": options.get("timeout") or _SILENCE_S})
        self.session: TimedSession = TimedSession()

    def getresponse(self) -> RequestsResponse:
        """Sends what `request` was given."""
        return _send(self)


class _PlainTransport(HTTPRequestsConnectionClass):
    """The same for `http://`, which `connect` allows on this machine only."""

    def __init__(self, host: str, port: int | None = None, **options: Any) -> None:  # noqa: ANN401 - PyGithub's
        super().__init__(host, port, **{**options, "timeout": options.get("timeout") or _SILENCE_S})
        self.session: TimedSession = TimedSession()

    def getresponse(self) -> RequestsResponse:
        """Sends what `request` was given."""
        return _send(self)


def _send(connection: _Transport | _PlainTransport) -> RequestsResponse:
    """One request; the deadline counts from here, a large body has longer."""
    size_bytes = int(connection.headers.get("Content-Length", "0"))
    connection.session.deadline = deadline = time.monotonic() + transfer_s(size_bytes)
    answer = connection.session.request(
        connection.verb,
        f"{connection.protocol}://{connection.host}:{connection.port}{connection.url}",
        headers=connection.headers,
        data=connection.input,
        timeout=connection.timeout,
        verify=connection.verify,
        allow_redirects=False,
        stream=True,
    )
    return _Answer(answer, deadline)


def _pieces(answer: requests.Response, deadline: float) -> Iterator[bytes]:
    """A body, piece by piece, until the deadline."""
    with answer:
        try:
            for piece in answer.iter_content(_CHUNK_BYTES):
                if time.monotonic() > deadline:
                    raise TransientError("an answer that did not end in time")
                yield piece
        except requests.RequestException as failure:
            if time.monotonic() > deadline:
                raise TransientError("an answer that did not end in time") from failure
            raise


# Judgement


def _judged(failure: github.GithubException, what: str) -> TransientError | HostError:
    """Whether a refusal may pass, and the sentence for it if not."""
    status, headers = failure.status, {key.lower(): value for key, value in (failure.headers or {}).items()}
    words, wait_s = words_of(failure.data) or "without a word", retry_after_s(headers.get("retry-after", ""))
    reason = f"{status} {words}"
    limited = isinstance(failure, github.RateLimitExceededException)
    if limited or status == 429 or (status == 403 and "retry-after" in headers):
        if wait_s is not None:
            return TransientError(reason, wait_s)
        if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdecimal():
            return TransientError(reason, max(1.0, int(headers["x-ratelimit-reset"]) - time.time() + 1.0))
        return TransientError(reason, least_s=_SECONDARY_WAIT_S)
    if status >= 500 or status in (408, 409):
        return TransientError(reason, wait_s)
    if status == 422 and is_overtaken(words):
        return TransientError(reason)
    return HostError(_refusal(status, words, headers.get("x-accepted-github-permissions", ""), what))


def _refusal(status: int, words: str, permissions: str, what: str) -> str:
    """The one sentence for a refusal that no repetition changes."""
    if status == 401:
        return f"GITHUB_TOKEN must be a token that GitHub accepts, got 401 {words}. Use a valid one."
    if status == 403 and NO_PERMISSION in words:
        missing = re.sub(r"[^\w=,; -]", "", permissions)[:80].replace("=", ": ") or "contents: write"
        return (
            f"GITHUB_TOKEN must have the permission {missing}, got 403 {words}. "
            "Grant it under permissions: in the workflow's job, or use another token."
        )
    if status == 404:
        return f"{what} must exist and be open to GITHUB_TOKEN, got 404 {words}. Correct --repo, or use another token."
    return f"GitHub must accept this for {what}, got {status} {words}. Change what it names, and run it again."


def _broken(failure: requests.RequestException) -> TransientError | HostError:
    """A request that got no whole answer; never its own text, which may repeat headers."""
    text = str(failure)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return HostError("GitHub's certificate must be trusted here. Set REQUESTS_CA_BUNDLE to your authority's file.")
    if isinstance(failure, requests.Timeout):
        return TransientError("no answer in time")
    if isinstance(failure, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
        return HostError("GitHub must answer with usable addresses, got one that is none. Check GITHUB_API_URL.")
    match = re.search(r"\[Errno -?\d+\] ([\w ,/-]+)|(Remote end closed|IncompleteRead|BadStatusLine)", text)
    return TransientError(f"the connection broke off ({(match[1] or match[2]) if match else type(failure).__name__})")
