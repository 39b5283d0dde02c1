"""huggingface_hub with our retry policy inside: every request bounded, every transient fault reported at once.

HF_ENDPOINT, HF_HOME and HF_TOKEN stay huggingface_hub's own affair. Its retries sleep for as long as a
server asks, so that ours take their place: each request goes through `_OneTry`, and `HubCalls` tries again.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from model_release.base.errors import ReleaseError
from model_release.base.http import REDIRECTS
from model_release.base.progress import Progress
from model_release.base.retry import (
    TRANSIENT_STATUS,
    RetriesExhaustedError,
    RetryPolicy,
    TransientError,
    retry,
    retry_after_s,
)

_T = TypeVar("_T")
_MAX_ANSWER_BYTES = 64 << 20  # A list of files; the files themselves are streamed.
_BROKEN_OFF = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError)


@dataclass(frozen=True, kw_only=True)
class HubCalls:
    """Calls to the hub that are tried until they work, fail for good, or have had their attempts.

    Attributes:
        error: What a call that fails for good raises.
        advice: What to do where the hub stays away, as a part of a sentence.
        closed: What to do where it refuses us: 401, 403, 404.
        conflicts: Statuses that say that somebody else was faster, and that asking afresh helps.
    """

    error: type[ReleaseError]
    advice: str
    closed: str
    progress: Progress
    retry_policy: RetryPolicy
    deadline: float
    conflicts: frozenset[int] = frozenset()

    def with_retries(self, what: str, request: Callable[[], _T]) -> _T:
        """Makes a call; `what` is its subject in a message.

        Raises:
            ReleaseError: `error`, with one sentence.
        """

        def one_try() -> _T:
            try:
                return request()
            except TransientError:
                raise
            except _BROKEN_OFF as failure:  # Within a body; huggingface_hub has tried to resume it.
                raise _transient(failure, self.deadline) from failure
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, TypeError, LookupError) as failure:
                if isinstance(failure, HfHubHTTPError) and failure.response.status_code in self.conflicts:
                    raise TransientError(f"status {failure.response.status_code}") from failure
                raise self._refusal(what, failure) from failure
            except RuntimeError as failure:  # An upload's thread wraps what stopped it.
                if isinstance(failure.__cause__, TransientError):
                    raise failure.__cause__ from failure
                raise self._refusal(what, failure) from failure

        def notice(text: str) -> None:
            self.progress(f"{endpoint()}: {text}")

        try:
            return retry(one_try, self.retry_policy, notice, deadline=self.deadline)
        except RetriesExhaustedError as failure:
            raise self.error(
                f"{endpoint()} must answer for {what}, got: {failure.reason[:200]} (attempts: {failure.attempts}). "
                f"Check the network and HF_ENDPOINT, try later{self.advice}."
            ) from failure

    def _refusal(self, what: str, failure: Exception) -> ReleaseError:
        """The one sentence for an answer that no retry changes."""
        origin = failure if failure.__cause__ is None or isinstance(failure, HfHubHTTPError) else failure.__cause__
        status = origin.response.status_code if isinstance(origin, HfHubHTTPError) else None
        if isinstance(origin, OfflineModeIsEnabled):
            return self.error(f"{what} must be cached while HF_HUB_OFFLINE is set. Unset it{self.advice}.")
        if status in (401, 403, 404):
            return self.error(
                f"{what} must be open to us on {endpoint()}, got {status}: not found, private or gated. {self.closed}"
            )
        if isinstance(failure, OSError) and failure.errno is not None:
            return self.error(f"The cache in HF_HOME must be writable, got: {failure.strerror}. Free what it needs.")
        got = f"status {status}" if status else f"{type(origin).__name__}: {origin}"[:200]
        return self.error(f"{endpoint()} must answer for {what} as a hub does, got {got}. Check HF_ENDPOINT.")


class _OneTry(httpx2.Client):
    """A client that reports every passing fault at once, reads no redirect's body, and stops at the deadline."""

    request_timeout_s: float
    deadline: float

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        follow = options.pop("follow_redirects", self.follow_redirects) is not False
        try:
            response = self._head(request, options)
            for _ in range(self.max_redirects):
                if not follow or response.next_request is None:
                    break
                response.close()
                response = self._head(response.next_request, options)
            if response.status_code in TRANSIENT_STATUS:
                response.close()
                wait_s = retry_after_s(response.headers.get("Retry-After", ""))
                raise TransientError(f"status {response.status_code}", wait_s)
            if response.status_code in REDIRECTS:  # One that is not followed; its body is not read either.
                response.close()
                return httpx2.Response(response.status_code, headers=response.headers, request=response.request)
            limit_bytes = math.inf if stream else _MAX_ANSWER_BYTES
            response.stream = _Bounded(cast(httpx2.SyncByteStream, response.stream), self.deadline, limit_bytes)
            if not stream:
                response.read()
        except _BROKEN_OFF as failure:
            raise _transient(failure, self.deadline) from failure
        return response

    def _head(self, request: httpx2.Request, options: Mapping[str, Any]) -> httpx2.Response:
        """The status and the headers of an answer."""
        if time.monotonic() > self.deadline:
            raise TransientError("no answer in time")
        request.extensions["timeout"] = httpx2.Timeout(self.request_timeout_s).as_dict()
        request.extensions["trace"] = self._notice_connection
        return super().send(request, stream=True, follow_redirects=False, **options)

    def _notice_connection(self, event: str, info: Mapping[str, Any]) -> None:
        """Lets a new connection read until the deadline: each wait is bounded, a server's interim answers are not."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream, deadline = info["return_value"], self.deadline
        read = stream.read

        def read_in_time(max_bytes: int, timeout: float | None = None) -> bytes:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TransientError("an answer that did not end in time")
            return cast(bytes, read(max_bytes, left_s if timeout is None else min(timeout, left_s)))

        stream.read = read_in_time


class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error at the deadline, and when it is too long."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, limit_bytes: float) -> None:
        self._stream, self._deadline, self._limit_bytes = stream, deadline, limit_bytes

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._stream:
                if time.monotonic() > self._deadline:
                    raise TransientError("an answer that did not end in time")
                self._limit_bytes -= len(piece)
                if self._limit_bytes < 0:
                    raise ValueError("an answer that is too long")
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        self._stream.close()


def _transient(failure: httpx2.HTTPError, deadline: float) -> TransientError:
    """Why there is no whole answer."""
    late = time.monotonic() > deadline
    return TransientError("an answer that did not end in time" if late else str(failure) or type(failure).__name__)


@contextmanager
def bounded(retry_policy: RetryPolicy) -> Iterator[float]:
    """Puts our client into huggingface_hub, and its own one back afterwards; yields the deadline."""
    deadline = retry_policy.deadline()

    def client() -> httpx2.Client:
        one_try = _OneTry(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True)
        one_try.request_timeout_s, one_try.deadline = retry_policy.request_timeout_s, deadline
        return one_try

    # Xet has a client and retries of its own; telemetry asks the hub for more than files, even on a cache hit.
    before = constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_TELEMETRY = True
    # Bars are for terminals; a log gets our own lines.
    quiet = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not sys.stderr.isatty()
    if quiet:
        disable_progress_bars()
    set_client_factory(client)
    try:
        yield deadline
    finally:
        if quiet:
            enable_progress_bars()
        set_client_factory(default_client_factory)
        constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY = before


def endpoint() -> str:
    """The hub's address for a message, without a login that HF_ENDPOINT may carry."""
    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
