"""What .gitattributes and .gitignore of the app's repository do to files that a release brings: texts in, rules out.

https://git-scm.com/docs/gitattributes and https://git-scm.com/docs/gitignore. Files of the repository are looked at,
not what one machine adds to them (`.git/info`, git's own configuration).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

ATTRIBUTES, IGNORED = ".gitattributes", ".gitignore"

MAX_RULES_BYTES = 1 << 20
"""The longest file of rules that is read."""

_BINARY = ("-diff", "-merge", "-text")  # The macro that git itself has.
_LFS = "passes it through Git LFS"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A line of a file of rules.

    Attributes:
        file: Its path in the repository.
        line: Its number, from 1.
        text: What stands there.
        effect: What git does to the file, e.g. `passes it through Git LFS`.
        attribute: By which attribute; empty for a rule of .gitignore.
    """

    file: str
    line: int
    text: str
    effect: str = ""
    attribute: str = ""

    def exempts(self, path: str) -> str:
        """The line that takes a path, with all that is beside a model, out of this rule, if it stands below it."""
        below = path.removeprefix(f"{PurePosixPath(self.file).parent}/")
        is_model = "/models/" in f"/{path}"
        return f"{below.rpartition('/')[0]}/** -filter -diff -merge -text" if is_model else f"{below} -filter"

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        return f"{self.file} line {self.line} ({text if len(text) <= 60 else text[:60] + '...'})"


def rule_files(path: str) -> list[str]:
    """Where rules about a file may stand, from the root down.

    >>> rule_files("web/.env")
    ['.gitattributes', '.gitignore', 'web/.gitattributes', 'web/.gitignore']
    """
    return [str(folder / name) for folder in _above(path) for name in (ATTRIBUTES, IGNORED)]


def changed_by(path: str, texts: Mapping[str, str]) -> Rule | None:
    """The rule by which a file comes out of git with other bytes than were put into it, as by Git LFS.

    Args:
        path: The file in the repository.
        texts: Text by path of the files of rules, at least those of `rule_files`.
    """
    found: dict[str, tuple[str, Rule]] = {}  # attribute -> its value, and who says so; "-" is unset
    macros: dict[str, tuple[str, ...]] = {"binary": _BINARY}
    for folder in _above(path):
        for line, text in _lines(texts.get(str(folder / ATTRIBUTES), "")):
            pattern, attributes = _attributes(text)
            if pattern.startswith("[attr]"):
                macros[pattern.removeprefix("[attr]")] = attributes
            elif not pattern.startswith("!") and _fits(pattern, path.removeprefix(f"{folder}/"), is_folder=False):
                rule = Rule(file=str(folder / ATTRIBUTES), line=line, text=text)
                for name, value in _values(attributes, macros):
                    found.pop(name, None)
                    if value != "!":
                        found[name] = (value, rule)
    for name, effect in (("filter", _filtered), ("working-tree-encoding", _encoded), ("eol", _ended)):
        if name not in found or found[name][0] in ("", "-"):
            continue
        value, rule = found[name]
        if done := effect(path, value, found["text"][0] if "text" in found else ""):
            return replace(rule, effect=done, attribute=name)
    return None


def ignored_by(path: str, texts: Mapping[str, str]) -> Rule | None:
    """The rule by which `git add` leaves a file out that git does not know yet; for arguments see `changed_by`."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        entry = "/".join(parts[:depth])
        rule = _last_about(entry, texts, is_folder=depth < len(parts))
        if rule is not None:
            return rule  # What is in a folder that is left out cannot be taken in again.
    return None


def tree_warnings(paths: Sequence[str], texts: Mapping[str, str], *, is_known: Callable[[str], bool]) -> Iterator[str]:
    """What a person who commits these files with git has to know, a sentence a rule.

    Args:
        paths: The files in the repository.
        texts: See `changed_by`.
        is_known: Whether git has a file already.
    """
    told: set[Rule] = set()
    for path in paths:
        changing = changed_by(path, texts)
        if changing and changing not in told:
            told.add(changing)
            need = "lfs: true at its checkout" if changing.effect == _LFS else "what undoes that"
            yield (
                f"{path} does not come out of git as it goes in: {changing} {changing.effect}. The app's build then "
                f"needs {need}; or add the line '{changing.exempts(path)}' below it, before you commit."
            )
        ignoring = ignored_by(path, texts)
        if ignoring and ignoring not in told and not is_known(path):
            told.add(ignoring)
            yield (f"{path} is left out by git add: {ignoring}. Add it with git add --force, or change that line.")


def _last_about(entry: str, texts: Mapping[str, str], *, is_folder: bool) -> Rule | None:
    """The rule that leaves out one file or folder; None if the last one that fits it takes it in."""
    for folder in reversed(_above(entry)):
        file = str(folder / IGNORED)
        for line, text in reversed(list(_lines(texts.get(file, "")))):
            pattern = text.removeprefix("!")
            if _fits(pattern, entry.removeprefix(f"{folder}/"), is_folder=is_folder):
                return None if text.startswith("!") else Rule(file=file, line=line, text=text, effect="leaves it out")
    return None


def _above(path: str) -> list[PurePosixPath]:
    """The folders a file is in, from the root down."""
    return list(reversed(PurePosixPath(path).parents))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = re.sub(r"(?<!\\)[ \t\r]+$", "", line)
        if line and not line.startswith("#"):
            yield number, line


def _fits(pattern: str, path: str, *, is_folder: bool) -> bool:
    """Whether a pattern means this very file or folder; both are relative to where the pattern stands.

    >>> _fits("*.onnx", "models/a.onnx", is_folder=False), _fits("models", "models/a.onnx", is_folder=False)
    (True, False)
    """
    if pattern.endswith("/") and not is_folder:
        return False
    pattern = pattern.rstrip("/")
    if not pattern:
        return False
    try:
        spec = GitIgnoreSpec.from_lines([re.sub(r"^(?=[#!])", r"\\", pattern)])
        if "/" not in pattern:
            return spec.match_file(path.rpartition("/")[2])
        # The library takes what is below a match for one, too.
        is_below = not pattern.endswith("/**") and any(map(spec.match_file, map(str, PurePosixPath(path).parents[:-1])))
        return spec.match_file(path) and not is_below
    except ValueError:
        return False  # No pattern, as to git.


def _attributes(text: str) -> tuple[str, tuple[str, ...]]:
    r"""A line's pattern and its attributes.

    >>> _attributes('"my models/*.onnx" filter=lfs -text')
    ('my models/*.onnx', ('filter=lfs', '-text'))
    """
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*)"(.*)', text)
    if quoted:
        return re.sub(r"\\(.)", r"\1", quoted[1]), tuple(quoted[2].split())
    pattern, *attributes = text.split()
    return pattern, tuple(attributes)


def _values(attributes: tuple[str, ...], macros: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Attributes as name and value: "" is set, "-" unset, "!" back to unspecified. A macro that is set is its parts."""
    for each in attributes:
        if each.startswith(("-", "!")):
            yield each[1:], each[0]
        else:
            name, _, value = each.partition("=")
            yield name, value
            if name in macros and not value:
                yield from _values(macros[name], {known: parts for known, parts in macros.items() if known != name})


def _filtered(_path: str, value: str, _text: str) -> str:
    return _LFS if value == "lfs" else f"passes it through the filter {value[:40]!a}"


def _encoded(_path: str, value: str, text: str) -> str:
    return f"writes it as {value[:40]!a}" if text != "-" else ""


def _ended(path: str, value: str, text: str) -> str:
    is_text = text != "-" and not (text == "auto" and ".onnx" in path)  # Git knows a binary file by its zero bytes.
    return "ends its lines with CRLF" if value == "crlf" and is_text else ""
