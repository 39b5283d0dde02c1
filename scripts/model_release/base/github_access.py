"""Where GitHub is and who we are there, as GitHub Actions says it in the environment; read and judged here alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from model_release.base.errors import UsageError
from model_release.base.github_limits import REPOSITORY
from model_release.base.http import AddressError, check_address

DEFAULT_API = "https://api.github.com"
DEFAULT_SERVER = "https://github.com"

_LOCAL = re.compile(r"localhost|.*\.localhost|127\.[0-9.]+|::1")
_ENTERPRISE_PATH = "/api/v3"  # https://docs.github.com/enterprise-server/rest/using-the-rest-api
# Beyond spaces and control characters: what has no place here, or that programs read in different ways.
_NOT_IN_ADDRESS = re.compile(r"[^!-~]|[\\?#]")


@dataclass(frozen=True, kw_only=True)
class GitHubAccess:
    """Addresses to send requests to, and what to show there.

    Attributes:
        token: Empty without one. It is in no message and no representation.
        repository: `owner/name`, or empty.
        api_url: `https://api.github.com`, or `https://HOST/api/v3` of a GitHub Enterprise Server; a token may be
            sent there.
        server_url: Where people see the repository.
        commit: The commit of the repository that the run is about; empty where no run is, or the repository is another.
    """

    token: str = field(default="", repr=False)
    repository: str = ""
    api_url: str = DEFAULT_API
    server_url: str = DEFAULT_SERVER
    commit: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]*", self.token):
            raise UsageError("GITHUB_TOKEN must be one word of ASCII. Copy it again.")
        _check_address("GITHUB_API_URL", self.api_url, DEFAULT_API)
        api = urlsplit(self.api_url)
        if api.scheme == "http" and not _LOCAL.fullmatch(api.hostname or ""):
            raise UsageError(
                f"GITHUB_API_URL must begin with https://, got http:// for {api.hostname!s:.80}. Correct it."
            )
        _check_address("GITHUB_SERVER_URL", self.server_url, DEFAULT_SERVER)
        if not re.fullmatch(r"[0-9a-f]{40}|", self.commit):
            raise UsageError(f"GITHUB_SHA must be a commit's 40 hex digits, got {self.commit[:60]!a}. Correct it.")
        if self.repository and not REPOSITORY.fullmatch(self.repository):
            raise UsageError(f"--repo must be OWNER/NAME, got {self.repository[:80]!a}. Use e.g. octocat/app.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, repository: str | None = None) -> Self:
        """What variables say. Space around a value is none of it: a secret from a file ends in a line break.

        Args:
            environ: GITHUB_TOKEN, GITHUB_REPOSITORY, GITHUB_API_URL, GITHUB_SERVER_URL and GITHUB_SHA are looked at;
                an empty one is not set. The addresses default to github.com, the server's to what belongs to the API.
            repository: In place of GITHUB_REPOSITORY, if it is not empty.

        Raises:
            UsageError: One of them is malformed, or an address is none to send a token to.
        """
        token, own, api_url, server_url, commit = (
            environ.get(f"GITHUB_{name}", "").strip()
            for name in ("TOKEN", "REPOSITORY", "API_URL", "SERVER_URL", "SHA")
        )
        api_url = (api_url or DEFAULT_API).rstrip("/")
        return cls(
            token=token,
            repository=repository or own,
            api_url=api_url,
            server_url=(server_url or server_of(api_url)).rstrip("/"),
            commit=commit if (repository or own).lower() == own.lower() else "",
        )


def server_of(api_url: str) -> str:
    """The web pages that belong to an API; an address of no known form serves both.

    >>> server_of("https://api.github.com"), server_of("https://ghe.example/api/v3")
    ('https://github.com', 'https://ghe.example')
    >>> server_of("https://api.octocorp.ghe.com"), server_of("http://127.0.0.1:8080")
    ('https://octocorp.ghe.com', 'http://127.0.0.1:8080')
    """
    if api_url.endswith(_ENTERPRISE_PATH):
        return api_url.removesuffix(_ENTERPRISE_PATH)
    return api_url.replace("://api.", "://", 1)


def _check_address(name: str, url: str, example: str) -> None:
    """Refuses what is no plain address; it is not repeated, as it may hold a login.

    Raises:
        UsageError: It is none.
    """
    try:
        check_address(url)
    except AddressError as failure:
        raise UsageError(f"{name} must be an address such as {example}. Correct it.") from failure
    if _NOT_IN_ADDRESS.search(url):
        raise UsageError(f"{name} must be an address such as {example}. Correct it.")
