"""A config of Vite: what it puts in the place of variables, and where it has env files read."""

import posixpath
import re
from collections.abc import Iterator, Sequence

from model_release.app.builds.effect import Effect, scalar


def vite_effects(text: str, key: str, files: Sequence[str], at: str, folder: str | None) -> Iterator[Effect]:
    """`define`, `envDir`, `root`, `envPrefix` and the process's environment in a config of Vite."""
    code = _without_comments(text)
    value = r"\s*(?P<value>[^\n,}]*(?:\([^\n]*\))?)"
    for match in re.finditer(rf"import\.meta\.env\.{key}[\"'`]?\]?\s*:{value}", code):
        if not re.search(rf"(?<!process\.)(?<!meta\.)\benv(?:\.{key}\b|\[)", match["value"]):
            how = f"define puts {match['value'].strip()[:80]} in place of {key}, whatever env files say. Remove it."
            yield Effect(line=1 + code.count("\n", 0, match.start()), problem=how)
    for match in re.finditer(rf"process\.env(?:\.{key}|\[[\"']{key}[\"']\])\s*(?:\|\||\?\?)?=(?!=){value}", code):
        line = 1 + code.count("\n", 0, match.start())
        yield Effect(line=line, value=scalar(match["value"].rstrip("; ")))
    options = dict(_options(code, ("envDir", "root", "envPrefix")))
    prefix = options.get("envPrefix")
    if prefix and (texts := _strings(prefix[1])) and not key.startswith(tuple(texts)):
        how = f"envPrefix lets the app see variables with {' or '.join(texts)} only, not {key}. Add VITE_ to it."
        yield Effect(line=prefix[0], problem=how)
    line, where = options.get("envDir") or options.get("root") or (0, "")
    name = "envDir" if "envDir" in options else "root"
    if line and where.strip() == "false":
        yield Effect(line=line, problem=f"{name}: false has Vite read no env files. Remove it.")
    elif line and folder is not None and (texts := _strings(where)):
        found = posixpath.normpath(posixpath.join(at, *(each.lstrip("/") for each in texts))).removeprefix(".")
        if found != folder:
            place = found or "the repository's root"
            how = f"{name} has Vite read env files in {place}, so not this {files[0]}. Give --env-file there."
            yield Effect(line=line, problem=how)


def _without_comments(code: str) -> str:
    """JavaScript with its comments as white space; strings stay."""
    pattern = r"(\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|//[^\n]*|/\*.*?\*/"
    return re.sub(pattern, lambda m: m[1] or re.sub(r"[^\n]", " ", m[0]), code, flags=re.DOTALL)


def _options(code: str, names: Sequence[str]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Options at the top of a config (or in its `vite:`): name, then line and expression."""
    parents: list[str] = []
    for match in re.finditer(
        r"([\"'`])(?:\\.|(?!\1).)*\1|([\w$]+)\s*:\s*(?=\{)|[{}[\]]|\b([\w$]+)\s*:", code, re.DOTALL
    ):
        if match[0] == "[":
            parents.append("[")
        elif match[0] == "{":
            before = re.search(r"([\w$]+)\s*:\s*[\w$.(\s]*$", code[: match.start()])
            parents.append(before[1] if before else "")
        elif match[0] in ("}", "]"):
            parents[-1:] = []
        elif match[3] in names and set(parents) <= {"", "vite"} and parents:
            value = re.match(r"\s*((?:\[[^\]]*\]|\([^()]*(?:\([^()]*\)[^()]*)*\)|[^,\n}\[(])*)", code[match.end() :])
            yield match[3], (1 + code.count("\n", 0, match.start()), value[1] if value else "")


def _strings(expression: str) -> list[str]:
    """The texts in an expression."""
    return [match[2] for match in re.finditer(r"([\"'`])((?:\\.|(?!\1).)*)\1", expression)]
