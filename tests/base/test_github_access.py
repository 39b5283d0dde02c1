"""GitHub as the environment names it: one rule for every command, and nothing hostile gets near a request."""

import doctest
from types import ModuleType

import pytest

from model_release.base import github_access, github_words
from model_release.base.errors import UsageError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_words import words_of


def access(**variables: str) -> GitHubAccess:
    return GitHubAccess.from_environment({f"GITHUB_{name}": value for name, value in variables.items()})


# -- what there is


@pytest.mark.parametrize("variables", [{}, {"TOKEN": "", "REPOSITORY": " ", "API_URL": "", "SERVER_URL": "\n"}])
def test_without_a_word_it_is_github_com_and_nobody(variables: dict[str, str]) -> None:
    assert access(**variables) == GitHubAccess(
        token="", repository="", api_url="https://api.github.com", server_url="https://github.com"
    )


def test_what_actions_sets_is_taken() -> None:
    api_url, server_url = "https://ghe.example/api/v3", "https://www.ghe.example/"
    found = access(TOKEN="ghs_x", REPOSITORY="o/r", API_URL=api_url, SERVER_URL=server_url)  # noqa: S106 - no secret
    assert (found.token, found.repository) == ("ghs_x", "o/r")
    assert (found.api_url, found.server_url) == ("https://ghe.example/api/v3", "https://www.ghe.example")


def test_an_option_names_another_repository_and_an_empty_one_does_not() -> None:
    variables = {"GITHUB_REPOSITORY": "o/r"}
    assert GitHubAccess.from_environment(variables, repository="else/web").repository == "else/web"
    assert GitHubAccess.from_environment(variables, repository="").repository == "o/r"


def test_the_runs_commit_is_that_of_its_own_repository() -> None:
    variables = {"GITHUB_REPOSITORY": "o/r", "GITHUB_SHA": "a" * 40}
    assert GitHubAccess.from_environment(variables).commit == "a" * 40
    assert GitHubAccess.from_environment(variables, repository="O/R").commit == "a" * 40
    assert GitHubAccess.from_environment(variables, repository="else/web").commit == ""
    with pytest.raises(UsageError, match="GITHUB_SHA must be a commit's 40 hex digits"):
        access(SHA="main")


@pytest.mark.parametrize("around", ["\n", "\r\n", " ", "\t"])
def test_space_around_a_value_is_none_of_it(around: str) -> None:
    found = access(TOKEN=f"{around}ghs_x{around}", REPOSITORY=f"o/r{around}", API_URL=f"https://ghe.example{around}")
    assert (found.token, found.repository, found.api_url) == ("ghs_x", "o/r", "https://ghe.example")


@pytest.mark.parametrize(
    ("api_url", "server_url"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://ghe.example/api/v3", "https://ghe.example"),
        ("https://ghe.example/api/v3/", "https://ghe.example"),
        ("https://ghe.example:8443/api/v3", "https://ghe.example:8443"),
        ("https://api.corp.example/api/v3", "https://api.corp.example"),
        ("https://api.octocorp.ghe.com", "https://octocorp.ghe.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_pages_of_an_enterprise_server_are_found_by_its_api_alone(api_url: str, server_url: str) -> None:
    assert access(API_URL=api_url).server_url == server_url


# -- what is refused


@pytest.mark.parametrize("token", ["two words", "a\nb", "tökens", "a\x00b", "a\x1b[31m"])
def test_a_malformed_token_is_refused_unsaid(token: str) -> None:
    with pytest.raises(UsageError, match="GITHUB_TOKEN must be one word of ASCII") as caught:
        access(TOKEN=token)
    assert token not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_token_is_in_no_representation() -> None:
    assert "ghs_secret" not in repr(access(TOKEN="ghs_secret"))  # noqa: S106 - no secret


HOSTILE_ADDRESSES = [
    "api.github.com",
    "//api.github.com",
    "//",
    "ftp://api.github.com",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://",
    "https://[",
    "https://x:y",
    "https://x:0",
    "https://me:secret@api.github.com",
    "https://secret@api.github.com",
    r"https://api.github.com\@evil.example",
    r"https://evil.example\.github.com",
    "https://evil.example#.github.com",
    "https://evil.example?.github.com",
    "https://api.github.com/?secret=1",
    "https://api.github.com\n.evil.example",
    "https://api github.com",
    "https://api.github.com/\x00",
    "https://api.gıthub.com",
    "https://api.github.com/" + "x" * 9000,
]


@pytest.mark.parametrize("name", ["API_URL", "SERVER_URL"])
@pytest.mark.parametrize("url", HOSTILE_ADDRESSES, ids=lambda url: ascii(url[:40]))
def test_what_is_no_plain_address_is_refused_and_not_repeated(name: str, url: str) -> None:
    with pytest.raises(UsageError, match=f"GITHUB_{name} must be an address such as https://") as caught:
        access(**{name: url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://api.github.com", "http://ghe.example/api/v3", "http://127.evil.example"])
def test_an_api_without_encryption_is_on_this_machine_only(url: str) -> None:
    with pytest.raises(UsageError, match="GITHUB_API_URL must begin with https://, got http:// for"):
        access(API_URL=url)
    assert access(API_URL="http://localhost:8080", SERVER_URL="http://ghe.example").api_url == "http://localhost:8080"


@pytest.mark.parametrize("repository", ["app", "a/b/c", "../..", "a/..", "a/.", ".a/b", "a b/c", "a/b?c", "ü/a"])
def test_what_is_no_repository_is_refused(repository: str) -> None:
    with pytest.raises(UsageError, match="--repo must be OWNER/NAME, got"):
        access(REPOSITORY=repository)
    with pytest.raises(UsageError, match="--repo must be OWNER/NAME, got"):
        GitHubAccess.from_environment({}, repository=repository)


# -- what GitHub says


def test_its_words_are_on_one_line_whatever_it_sends() -> None:
    errors = [{"field": "x", "code": "bad"}, {"code": "bad"}, "plain", {}, None]
    assert words_of({"message": "a\n b", "errors": errors}) == "a b, x bad, bad, plain"
    nothing_said: tuple[object, ...] = (None, [], "text", {"message": None, "errors": 7})
    for odd in nothing_said:
        assert words_of(odd) == ""
    assert len(words_of({"message": "m" * 999})) == 300


@pytest.mark.parametrize("module", [github_access, github_words])
def test_the_examples_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)
