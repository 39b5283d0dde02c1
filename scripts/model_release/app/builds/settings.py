"""Settings in JSON and TOML: a package's scripts, and those of Vercel and Netlify."""

import json
import posixpath
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from model_release.app.builds.effect import Effect, mode_of
from model_release.app.builds.shell import shell_effects


def package_effects(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Effect]:
    """Scripts of a package that build, or are called by one that does."""
    scripts = {name: script for name, script in _table(_json(text), "scripts").items() if isinstance(script, str)}
    ours = {name for name, script in scripts.items() if re.search(r"\bbuild\b", f"{name} {script}")}
    for _ in scripts:
        calls = " ; ".join(scripts[each] for each in ours)
        runs = r"\b(?:run|run-s|run-p|yarn|pnpm|npm-run-all)\b[^;&|]*(?<![\w:-])"
        called = {name for name in scripts if re.search(rf"{runs}{re.escape(name)}(?![\w:-])", calls)}
        ours |= called | {name for each in ours for name in (f"pre{each}", f"post{each}") if name in scripts}
    for name in (name for name in scripts if name in ours):
        line = _line_of(text, rf"\"{re.escape(name)}\"\s*:\s*\"")
        found = list(_command(scripts[name], line, key, files, at))
        modes = {each.mode for each in found if each.mode}
        if name != "build" and modes - {mode_of(files[0]) or "production"}:
            continue  # A build of another kind.
        yield from found


def vercel_effects(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Effect]:
    """Variables and commands of a vercel.json."""
    document = _json(text)
    for table in (_table(document, "build", "env"), _table(document, "env")):
        if key in table:
            yield Effect(line=_line_of(text, rf"\"{key}\"\s*:"), value=str(table[key]))
    for name in ("buildCommand", "installCommand"):
        yield from _command(document.get(name), _line_of(text, rf"\"{name}\"\s*:"), key, files, at)


def netlify_effects(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Effect]:
    """Variables and commands of a netlify.toml, for every context."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    build = _table(document, "build")
    contexts = _table(document, "context")
    for table in (build, *(each for each in contexts.values() if isinstance(each, dict))):
        environment = _table(table, "environment")
        if key in environment:
            value = str(environment[key])
            pattern = rf"^[^#\n]*\b{key}\b\"?'?\s*=\s*[\"']{re.escape(value)}"
            yield Effect(line=_line_of(text, pattern), value=value)
        command = table.get("command")
        line = _line_of(text, rf"^\s*command\s*=\s*[\"']+{re.escape(str(command)[:20])}")
        yield from _command(command, line, key, files, posixpath.join(at, str(table.get("base", ""))))


def _command(text: object, line: int, key: str, files: Sequence[str], at: str) -> Iterator[Effect]:
    for effect in shell_effects(text, key, files, folder=at) if isinstance(text, str) else ():
        yield replace(effect, line=line)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _table(of: object, *names: str) -> dict[str, Any]:
    """A table inside tables; an empty one where there is none."""
    for name in names:
        of = of.get(name) if isinstance(of, dict) else None
    return of if isinstance(of, dict) else {}


def _line_of(text: str, pattern: str) -> int:
    """The line where something stands, from 1."""
    match = re.search(pattern, text, re.MULTILINE)
    return 1 + text.count("\n", 0, match.start() if match else 0)
