"""The env file: only our key changes, and every reader gets back exactly what was meant."""

import re
import time
from itertools import takewhile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_release.app import envfile
from model_release.app.envfile import decode, edited, encode, get_value, set_values
from model_release.app.overrides import _misread_by_node
from model_release.base.errors import EnvFileError

URL = "https://models.example/gpt2/model.onnx?v=1.2.3-0a1b2c3d"
steady = settings(derandomize=True, deadline=None, max_examples=200)

# Read by dotenv 16.6, 17.4 and 18.0 (npm), whose parser this room follows; K is the key asked for.
READ_BY_DOTENV = [
    ("K=v", "v"),
    ("K=", ""),
    ("K=\n", ""),
    ("", None),
    ("# K=v", None),
    ("X K=v", None),
    ("XK=v\nK.x=w\nK-x=w", None),
    ("export K=v", "v"),
    ("export\t K = v", "v"),
    ("  K  =  v  ", "v"),
    ("K: v", "v"),
    ("K:v", None),
    ("K:\nA=1", "A=1"),
    ("A:\nK=v", None),
    ("A:\r\nK=v", None),
    ("K=a#b", "a"),
    ("K=a # b", "a"),
    ("K=# b", ""),
    ("K='a # b' # c", "a # b"),
    ('K=" a "', " a "),
    ("K=` a'\"b `", " a'\"b "),
    (r'K="a\nb\rc\td"', "a\nb\rc\\td"),
    (r"K='a\nb'", r"a\nb"),
    ("K='a\nb'", "a\nb"),
    ("K='a\r\nb\rc'", "a\nb\nc"),
    (r"K='it\'s'", r"it\'s"),
    ("K='open", "'open"),
    ("K='open\nA=1", "'open"),
    ('K="open # c', '"open'),
    ("K='a'b", "'a'b"),
    ("K=it's", "it's"),
    ("A='x\nK=no\n'\nK=yes", "yes"),
    ("A='x\nK=no\n'", None),
    ("A=`x\nK=no\n`", None),
    ("A='x\nK=v", "v"),
    ("K=1\nK=2", "2"),
    ("K=\n'v'", "v"),
    ("K\n=v", "v"),
    ("\ufeffK=v", "v"),
    ("K=\u00a0v\u3000", "v"),
    ("K=a\u2028'b'", "a\u2028b"),
    ("A=1\u2028K=v", None),
    ("A=1\rK=v\r", "v"),
    ("A=1\x0bK=v", None),
    ("é=1\nK=v", "v"),
    ("K=a=b", "a=b"),
    ("K=a\\$b", "a$b"),
    ("K='$ 5$'", "$ 5$"),
]


@pytest.mark.parametrize(("text", "value"), READ_BY_DOTENV)
def test_a_value_is_read_as_dotenv_reads_it(text: str, value: str | None) -> None:
    assert get_value(text, "K") == value


@pytest.mark.parametrize("value", ["$A", "${A}", "a${A:-b}", "'$A'", "$5", "$(id)", "x$.y"])
def test_a_reference_to_another_variable_is_no_value_this_file_can_tell(value: str) -> None:
    with pytest.raises(EnvFileError, match=r"K must be a plain value, got the reference .* on line 2\."):
        get_value(f"A=1\nK={value}\n", "K")


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("K=old\n", f"K={URL}\n"),
        ("K='old'\n", f"K='{URL}'\n"),
        ('K="old"\n', f'K="{URL}"\n'),
        ("K=`old`\n", f"K=`{URL}`\n"),
        ("K=old # why\n", f"K={URL} # why\n"),
        ("K=old#why", f"K={URL}#why"),
        ('K="old"   # why # "not"\n', f'K="{URL}"   # why # "not"\n'),
        ("  export   K  =  old  \n", f"  export   K  =  {URL}  \n"),
        ("K: old\n", f"K: {URL}\n"),
        ("K=", f"K={URL}"),
        ("K=\r\n\r\n", f"K={URL}\r\n\r\n"),
        ("K=  # empty\n", f"K={URL}  # empty\n"),
        ("K=''\n", f"K='{URL}'\n"),
        ("K='old\n", f"K={URL}\n"),
        ("K='one\ntwo' # why\nB=1\n", f"K='{URL}' # why\nB=1\n"),
        ("A=1\r\nK=old\r\nB=2\r\n", f"A=1\r\nK={URL}\r\nB=2\r\n"),
        ("A=1\nK=old\r\nB=2\rC=3", f"A=1\nK={URL}\r\nB=2\rC=3"),
        ("\ufeffK=old", f"\ufeffK={URL}"),
        ("# \udcff\udcfe\nK=old\n", f"# \udcff\udcfe\nK={URL}\n"),
        ("K=$BASE/model.onnx\n", f"K={URL}\n"),
        ("#K=old\n# K=old\nK=old\n", f"#K=old\n# K=old\nK={URL}\n"),
        ("MY_K=1\nK=old\nK2=1\n", f"MY_K=1\nK={URL}\nK2=1\n"),
    ],
)
def test_only_the_value_changes_on_the_edited_line(text: str, edited: str) -> None:
    assert set_values(text, {"K": URL}) == edited


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("", "K=v\n"),
        ("A=1\n", "A=1\nK=v\n"),
        ("A=1", "A=1\nK=v\n"),
        ("A=1\r\nB=2", "A=1\r\nB=2\r\nK=v\r\n"),
        ("A=1\r\nB=2\r\nC=3\n", "A=1\r\nB=2\r\nC=3\nK=v\r\n"),
        ("A=1\nB=2\nC=3\r\n", "A=1\nB=2\nC=3\r\nK=v\n"),
        ("A=1\rB=2\r", "A=1\rB=2\rK=v\r"),
        ("\ufeff", "\ufeff\nK=v\n"),
        ("# K=w\n", "# K=w\nK=v\n"),
        ("\n\n", "\n\nK=v\n"),
    ],
)
def test_a_new_key_is_appended_with_the_files_own_line_ending(text: str, edited: str) -> None:
    assert set_values(text, {"K": "v"}) == edited


def test_new_keys_are_appended_in_the_order_given() -> None:
    assert set_values("B=0\n", {"K": "1", "B": "2", "A": "3"}) == "B=2\nK=1\nA=3\n"


@pytest.mark.parametrize("text", ["K=v", "K='v' # c\r\n", "\texport K = `v`", "K: v\n", "A='open\nK=v\n"])
def test_an_equal_value_returns_the_identical_text(text: str) -> None:
    assert set_values(text, {"K": "v"}) is text


@pytest.mark.parametrize("quote", ["'", '"', "`"])
def test_a_line_inside_another_keys_multiline_value_is_left_alone(quote: str) -> None:
    inside = f"A={quote}first\nK=inside\nlast{quote}\n"
    assert set_values(inside, {"K": "v"}) == inside + "K=v\n"
    assert set_values(inside + "K=old\nB=1\n", {"K": "v"}) == inside + "K=v\nB=1\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [("K=1\nK=2\n", "1, 2"), ("\r\nK=1\r\n# c\r\n export K: '2'", "2, 4"), ("K=v\rK=v\rK=v", "1, 2, 3")],
)
def test_a_key_assigned_twice_is_refused_with_its_lines(text: str, lines: str) -> None:
    with pytest.raises(EnvFileError, match=rf"K must be assigned once, got it on lines {lines}\. Delete") as caught:
        set_values(text, {"K": "v"})
    assert caught.value.exit_code == 9


def test_another_keys_duplicates_are_none_of_our_business() -> None:
    assert set_values("A=1\nA=2\nK=1\n", {"K": "v"}) == "A=1\nA=2\nK=v\n"


@pytest.mark.parametrize("text", ["K=\n'old'\n", "K:\nB=1\n", "K\n=old\n", "K:\n"])
def test_a_value_on_another_line_than_its_key_is_refused(text: str) -> None:
    with pytest.raises(EnvFileError, match="K must share a line with its value, got a break at 1"):
        set_values(text, {"K": "v"})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", '""'),
        ("a b", "a b"),
        (" a", '" a"'),
        ("a#b", '"a#b"'),
        ("a$b", r"a\$b"),
        ("${A}", r"\${A}"),
        ("#$A", r'"#\$A"'),
        (r"C:\new\x", r"C:\new\x"),
        (r"C:\new #1", r"'C:\new #1'"),
        (r"C:\tmp #1", r"'C:\tmp #1'"),
        ("#'", '"#\'"'),
        ("#\"'", "`#\"'`"),
        ("it's", "it's"),
        ("'a'", "\"'a'\""),
        ("=", "="),
        ("é", "é"),
    ],
)
def test_quotes_are_added_only_where_the_value_needs_them(value: str, written: str) -> None:
    assert set_values("K=old # c\n", {"K": value}) == f"K={written} # c\n"
    assert set_values("", {"K": value}) == f"K={written}\n"


# fmt: off
NEVER_READ_BACK = [
    "a\nb", "v\nEVIL=1", "v\r\nEVIL=1", "v\r", "\0", "\t", "\u2028EVIL=1", "\x85", "\ufeff", "\u200b", "\udc80",
    "$(touch x)", r"\$(touch x)", r"\$A", "#'\"`", "' \" ` ", "#\\",
]
# fmt: on


@pytest.mark.parametrize("value", NEVER_READ_BACK)
def test_a_value_no_reader_would_give_back_is_refused(value: str) -> None:
    with pytest.raises(EnvFileError, match=r"^K must ") as caught:
        set_values("A=1\nK=old\n", {"K": value})
    assert caught.value.exit_code == 9
    assert str(caught.value).isprintable()


def test_a_refusal_shows_a_bounded_part_of_the_value() -> None:
    with pytest.raises(EnvFileError) as caught:
        set_values("", {"K": "\n" * 100_000})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "key", ["", "1K", "K-1", "K.1", "K K", "K\n", "K=", "#K", "export K", "Ключ", "K" + "\n" * 9999]
)
def test_a_key_that_is_no_identifier_is_refused(key: str) -> None:
    with pytest.raises(EnvFileError, match="A key must be letters, digits and _, got") as caught:
        set_values("A=1\n", {key: "v"})
    assert len(str(caught.value)) < 400


def test_a_file_that_would_swallow_the_new_line_is_refused() -> None:
    with pytest.raises(EnvFileError, match="K must have a value that can stand beside the file's other lines"):
        set_values("A:", {"K": "v"})  # dotenv reads "A:\nK=v" as A = "K=v"


def test_quotes_that_an_open_quote_above_would_pair_with_are_avoided() -> None:
    assert set_values("A='open\nK='old'\n", {"K": "#new"}) == 'A=\'open\nK="#new"\n'


TEXT = "# 模型\r\nVITE_TITLE=é\r\nK=old\r\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        "\ufeff模型".encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.encode("utf-32-le"),
        b"A=1\nB=\0\n",
        b"\0",
        b"A=1\n" + "B=2\n".encode("utf-16-le"),
    ],
)
def test_a_file_that_does_not_hold_ascii_as_it_is_is_refused(content: bytes) -> None:
    with pytest.raises(EnvFileError, match=r"^web/\.env must be UTF-8, got .* UTF-16.*\. Save it as UTF-8") as caught:
        edited(content, {"K": "v"}, "web/.env")
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "big5", "latin-1", "shift-jis"])
def test_a_file_that_holds_ascii_as_it_is_keeps_its_bytes(encoding: str) -> None:
    content = TEXT.encode(encoding, errors="ignore")
    assert encode(decode(content, ".env")) == content
    assert edited(content, {"K": "new"}, ".env") == content.replace(b"old", b"new")


# fmt: off
LINES = st.sampled_from([
    "A=1", "export B = two # c", "# K=no", "", "  ", "A='m\nK=inside\n'", "B=`x\n\nK=`", "C='open", 'C="open', "D=it's",
    "foo bar", "E: 5", "F=", "F= ", "G=$A/${B}", "\u00a0", "# \udcff", "A=\\", "H='a\\'", "foo:", "\x0b", "I='a' 'b'",
])
OURS = st.sampled_from([
    "K=old", " export K = 'old' # c", 'K="old"#c', "K=`old`", "K=", "K= # c", "K: old", "K=$A", "K='o", "K='a\nb' # c",
])
# fmt: on
ENDINGS = st.sampled_from(["\n", "\r\n", "\n", "\r"])
VALUES = st.text(st.sampled_from("av1.?=/:-_ $\\'\"`#{}()nrAK\n\r\0é\u2028\udcff"), max_size=12)


@st.composite
def files(draw: st.DrawFn, *, with_ours: bool = True) -> str:
    """A dotenv file of odd lines, our key in at most one of them."""
    lines = draw(st.lists(LINES, max_size=5))
    if with_ours and draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(OURS))
    text = "".join(line + draw(ENDINGS) for line in lines)
    return draw(st.sampled_from(["", "", "\ufeff"])) + (text if draw(st.booleans()) else text.rstrip("\r\n"))


def edited_or_none(text: str, value: str) -> str | None:
    try:
        return set_values(text, {"K": value})
    except EnvFileError:
        return None


@steady
@given(files(), VALUES)
@example("A='open\n", "#")
@example("K='x\\'\nA='y'\n", "a\\")
def test_whatever_is_written_is_read_back_and_written_once(text: str, value: str) -> None:
    edited = edited_or_none(text, value)
    if edited is not None:
        assert get_value(edited, "K") == value
        assert set_values(edited, {"K": value}) is edited


@steady
@given(files(), VALUES)
def test_the_bytes_around_the_value_stay_and_no_line_is_injected(text: str, value: str) -> None:
    edited = edited_or_none(text, value)
    if edited is None or edited == text:
        return
    old = _read(text, "K")
    if old == "None":  # appended: one line, behind a line ending if there was none
        added = edited[len(text) :]
        assert edited.startswith(text)
        assert re.fullmatch(r"(\r\n|\r|\n)?K=[^\r\n]+(\r\n|\r|\n)", added)
        assert (added[0] in "\r\n") == (text != "" and text[-1] not in "\r\n")
    else:  # edited: a part of one line, or of the lines of a value in quotes
        start = _shared(text, edited)
        end = _shared(text[start:][::-1], edited[start:][::-1])
        removed, written = text[start : len(text) - end], edited[start : len(edited) - end]
        assert not set(written) & set("\r\n\u2028\u2029")
        assert not set(removed) & set("\r\n") or "\\n" in old
        assert "K" in re.split(r"[\r\n]", text[:start])[-1]


@steady
@given(files(), VALUES)
def test_no_other_key_reads_differently_after_an_edit(text: str, value: str) -> None:
    def others(of: str) -> list[str]:
        return [_read(of, key) for key in "ABCDEFGHI"]

    edited = edited_or_none(text, value)
    assert edited is None or others(edited) == others(text)


@settings(steady, max_examples=150)
@given(files(with_ours=False), st.text(max_size=20), st.text(max_size=4))
def test_arbitrary_text_never_causes_another_failure(text: str, value: str, key: str) -> None:
    for of in (text, value):
        edited_or_none(of, value)
        _read(of, key)


@settings(steady, max_examples=150)
@given(
    files(),
    st.from_regex(r"[0-9]\.[0-9]\.[0-9](-rc\.[0-9])?", fullmatch=True),
    st.from_regex("[0-9a-f]{8}", fullmatch=True),
)
def test_a_release_url_is_written_in_the_lines_own_quotes(text: str, version: str, digest: str) -> None:
    url = f"https://models.example/gpt2/model.onnx?v={version}-{digest}"
    edited = edited_or_none(text, url)
    assert edited is None or any(f"{q}{url}{q}" in edited for q in ("", "'", '"', "`"))


# dotenv's LINE as one expression, and what its parser makes of a match: right, and too slow for files that mean harm.
SPACE = r"[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"
END = r"[\n\r\u2028\u2029]"
LINE = re.compile(
    rf"""
    (?: \A | (?<={END}) ) {SPACE}* (?: export {SPACE}+ )? ( [A-Za-z0-9_.\-]+ )
    (?: {SPACE}* = {SPACE}*? | : (?> \r\n | {SPACE} )+? )
    ( {SPACE}* ' (?: \\' | [^'] )* ' | {SPACE}* " (?: \\" | [^"] )* " | {SPACE}* ` (?: \\` | [^`] )* ` | [^\#\r\n]+ )?
    {SPACE}* (?: \# (?: (?!{END}) . )* )? (?= {END} | \Z )
    """,
    re.VERBOSE,
)


def read_by_one_expression(text: str) -> list[tuple[str, str]]:
    found = []
    for key, raw in LINE.findall(text):
        trimmed = re.sub(rf"\A{SPACE}+|{SPACE}+\Z", "", raw)
        quotes = rf"(?:\A|(?<={END}))(['\"`])(.*)\1(?={END}|\Z)"
        value = re.sub(quotes, r"\2", re.sub(r"\r\n?", "\n", trimmed), flags=re.DOTALL)
        if trimmed.startswith('"'):
            value = value.replace(r"\n", "\n").replace(r"\r", "\r")
        found.append((key, value))
    return found


# fmt: off
TOKENS = st.sampled_from([
    "A", "K", "export", "export ", "=", ":", " ", "\t", "\n", "\r", "\r\n", "\u2028", "\ufeff", "\u00a0", "'", '"', "`",
    "\\", "\\'", '\\"', "#", "x", "$", ".", "%", "'x'", '"a b"', "\n\n", " = ", ": ", "\\n", "\v", "1", "é", "\udcff",
])
# fmt: on


@settings(steady, max_examples=1000)
@given(st.lists(TOKENS, max_size=40).map("".join))
def test_assignments_are_found_as_dotenvs_one_expression_finds_them(text: str) -> None:
    assert [(each.key, each.value) for each in envfile._assignments(text)] == read_by_one_expression(text)


SLOW = {
    "blank lines": "\n",
    "blank lines with spaces": " \n",
    "carriage returns": "\r",
    "line separators": "\u2028",
    "open quotes": "A='x\n",
    "three kinds of open quotes": "A='x\nB=\"x\nC=`x\n",
    "escaped quotes": "\\'",
    "quotes that end no line": "x\u2028'a",
    "spaces within a value": " \u00a0",
    "exports": "export\n",
    "keys alone": "A\n",
    "colons": "A:\n",
    "quoted values": "A='x'\n",
    "values of white space": "A= \n\n",
}


@pytest.mark.parametrize("again", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("head", ["", "A=", "A='"], ids=["alone", "in a value", "in an open quote"])
def test_a_file_that_means_harm_is_read_in_little_time(head: str, again: str) -> None:
    text = head + again * (32_000 // len(again)) + "%"  # A time that grows with the square would be half a minute.
    began = time.process_time()
    edited_or_none(text, "v")
    list(_misread_by_node(f"{text}\nK=v\n", "K"))
    assert time.process_time() - began < 3


def test_a_refusal_names_a_few_lines_of_many() -> None:
    with pytest.raises(EnvFileError, match=r"got it on lines 1, 2, 3, 4, 5, \.\.\.\."):
        set_values("K=1\n" * 1000, {"K": "2"})


def _shared(one: str, other: str) -> int:
    """Returns how many characters two texts share from their start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _read(text: str, key: str) -> str:
    try:
        return repr(get_value(text, key))
    except EnvFileError as failure:
        return str(failure).split(" on line ")[0]
