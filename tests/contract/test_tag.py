"""Release tags: only strict SemVer gets in, and the next free one is always a later one."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_release.base.errors import UsageError
from model_release.contract.tag import ReleaseTag, next_free, parse_tag

steady = settings(derandomize=True, deadline=None, max_examples=300)

NUMBERS = st.one_of(st.integers(0, 12), st.integers(0, 10**15))
IDENTIFIERS = st.one_of(NUMBERS.map(str), st.from_regex(r"[0-9]{0,2}[A-Za-z-][0-9A-Za-z-]{0,4}", fullmatch=True))
VERSIONS = st.builds(
    lambda numbers, series: ".".join(map(str, numbers)) + ("-" + ".".join(series) if series else ""),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.lists(IDENTIFIERS, max_size=3),
)
TAGS = VERSIONS.filter(lambda version: len(version) < 90).map(lambda version: parse_tag(f"model-v{version}"))


def test_a_tag_is_read_into_its_numbers() -> None:
    tag = parse_tag("model-v1.20.3")
    assert (tag.text, tag.version) == ("model-v1.20.3", "1.20.3")
    assert (tag.major, tag.minor, tag.patch, tag.prerelease) == (1, 20, 3, False)


@pytest.mark.parametrize("version", ["1.0.0-rc.1", "0.0.0-0", "1.2.3--", "1.2.3-a-b.0a", "1.0.0-x.7.z.92", "1.0.0-01a"])
def test_a_prerelease_says_so(version: str) -> None:
    tag = parse_tag(f"model-v{version}")
    assert tag.prerelease
    assert tag.version == version


# fmt: off
NO_TAGS = [
    "", "model-v", "model-v1", "model-v1.0", "model-v1.0.0.0", "v1.0.0", "1.0.0", "model-1.0.0", "Model-v1.0.0",
    "model-v01.0.0", "model-v1.00.0", "model-v1.0.0-01", "model-v1.0.0-", "model-v1.0.0-a..b", "model-v1.0.0-a.",
    "model-v1.0.0+build", "model-v1.0.0-rc.1+b", "model-v-1.0.0", "model-v1.0.0-rc_1", "model-v1.0.0-a.lock",
    "model-v1.0.0\n", "\nmodel-v1.0.0", " model-v1.0.0", "model-v1.0.0 ", "model-v1.0.0\0", "model-v1.0.0\nx",
    "model-v1$(touch x)", "model-v1.0.0-$(touch x)", "model-v1.0.0;x", "../../x", "model-v1.0.0/../x",
    "model-v١.٠.٠", "model-v1.0.²", "model-v1.0.0-é", "model-v1.0.0-\u202ex", "refs/tags/model-v1.0.0",
    "model-v1.0.0-" + "a" * 300, "model-v" + "1" * 300 + ".0.0", "::set-output name=x::y", "\x1b[31m", "\udcff",
]
# fmt: on


@pytest.mark.parametrize("text", NO_TAGS)
def test_a_hostile_or_loose_tag_is_refused_in_one_printable_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"^tag must be model-vMAJOR\.MINOR\.PATCH .*, got .* Use e\.g\. ") as e:
        parse_tag(text)
    assert e.value.exit_code == 2
    assert str(e.value).isascii()
    assert str(e.value).isprintable()
    assert len(str(e.value)) < 600


def test_a_tag_of_a_hundred_characters_is_the_longest() -> None:
    longest = "model-v1.0.0-" + "a" * 87
    assert parse_tag(longest).text == longest
    with pytest.raises(UsageError, match="at most 100 characters"):
        parse_tag(longest + "a")


def test_tags_are_ordered_as_semver_says() -> None:
    # The two chains of https://semver.org/#spec-item-11.
    versions = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    versions += ["1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0"]
    tags = [parse_tag(f"model-v{version}") for version in versions]
    shuffled = random.Random(0).sample(tags, len(tags))
    assert sorted(shuffled) == tags
    assert all(a < b and b > a and a <= b and not b <= a for a, b in itertools.pairwise(tags))


def test_a_tag_has_no_order_against_plain_text() -> None:
    with pytest.raises(TypeError):
        _ = parse_tag("model-v1.0.0") < "model-v1.0.0"


@pytest.mark.parametrize(
    ("tag", "taken", "free"),
    [
        ("1.0.0", [], "1.0.1"),
        ("1.0.0", ["1.0.0", "1.0.1", "1.0.3"], "1.0.2"),
        ("1.2.9", ["1.2.9"], "1.2.10"),
        ("1.0.0-rc.1", ["1.0.0-rc.1"], "1.0.0-rc.2"),
        ("1.0.0-rc.9", ["1.0.0-rc.10", "1.0.0-rc.11"], "1.0.0-rc.12"),
        ("1.0.0-alpha", ["1.0.0-alpha"], "1.0.0-alpha.1"),
        ("1.0.0-rc1", ["1.0.0-rc1.1"], "1.0.0-rc1.2"),
        ("1.0.0-4", [], "1.0.0-5"),
        ("1.0.0-1.0.0", [], "1.0.0-1.0.1"),
        ("1.0.0-a-4", [], "1.0.0-a-4.1"),
    ],
)
def test_the_next_free_tag_skips_what_is_taken(tag: str, taken: list[str], free: str) -> None:
    assert next_free(parse_tag(f"model-v{tag}"), [f"model-v{v}" for v in taken] + ["v1.0.1", "", "\n"]).version == free


def test_a_next_tag_that_would_be_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 100 characters"):
        next_free(parse_tag("model-v1.0.0-" + "a" * 86), [])


@steady
@given(TAGS)
def test_a_tag_survives_the_round_trip_through_its_numbers(tag: ReleaseTag) -> None:
    assert parse_tag(tag.text) == tag
    assert tag.text == f"model-v{tag.version}"
    assert tag.version.split("-")[0] == f"{tag.major}.{tag.minor}.{tag.patch}"
    assert tag.prerelease == ("-" in tag.version)


@steady
@given(TAGS, TAGS, TAGS)
def test_the_order_is_total(a: ReleaseTag, b: ReleaseTag, c: ReleaseTag) -> None:
    assert (a < b) + (a == b) + (a > b) == 1
    assert not (a < b and b < c) or a < c


@steady
@given(TAGS, st.integers(0, 5), st.sets(TAGS.map(lambda tag: tag.text), max_size=3))
def test_the_next_free_tag_is_later_free_and_of_the_same_kind(tag: ReleaseTag, run: int, others: set[str]) -> None:
    taken = {tag.text} | others
    for _ in range(run):
        taken.add(next_free(tag, taken).text)
    free = next_free(tag, iter(sorted(taken)))
    assert free > tag
    assert free.text not in taken
    assert (free.major, free.minor, free.prerelease) == (tag.major, tag.minor, tag.prerelease)


@steady
@given(st.one_of(st.text(max_size=30), st.text(max_size=12).map(lambda text: f"model-v1.0.0{text}")))
def test_any_text_is_a_tag_or_a_usage_error(text: str) -> None:
    try:
        tag = parse_tag(text)
    except UsageError:
        return
    assert re.fullmatch(r"model-v[0-9A-Za-z.-]+", tag.text)
    assert ".." not in tag.text
