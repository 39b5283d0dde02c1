"""YAML of GitHub's workflows and of other services that build: what its variables, scripts and actions do.

Lines are looked at where a library would be needed for more: a warning is no judgement.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from model_release.app.builds.effect import Effect, scalar
from model_release.app.builds.shell import shell_effects

_ENV_PARENTS = frozenset({"env", "environment", "variables", "envVars", "args", "build-args", "build_args"})
_SCRIPT_PARENTS = frozenset(
    {"run", "script", "before_script", "after_script", "command", "commands", "buildCommand", "preBuild", "build"}
    | {"bash", "pwsh", "powershell", "inlineScript"}
)
_WRITING_ACTION = re.compile(
    r"(?:create|write|make|generate|save|render).*(?:env|file)|(?:env|file).*(?:create|write|make|generat|save)|"
    r"secret|base64|env-?file"
)
_WRITTEN_INPUT = re.compile(r"out|dest|target", re.IGNORECASE)
_FILE_INPUT = re.compile(r"file|path|name|out|dest|target", re.IGNORECASE)


@dataclass(kw_only=True)
class _Step:
    """A step of a workflow that uses an action."""

    indent: int
    uses: str = ""
    line: int = 0
    folder: str = ""
    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    scripts: list[tuple[int, str]] = field(default_factory=list)


def workflow_effects(text: str, key: str, files: Sequence[str], *, is_compose: bool) -> Iterator[Effect]:
    """Lines that set a key for steps, write an env file in a script, or have an action write one."""
    parents: list[tuple[int, str]] = []  # Indent and key of the lines that this one is below.
    step, usual_folder = _Step(indent=-1), ""
    lines = text.splitlines()
    env_parents = frozenset({"args"}) if is_compose else _ENV_PARENTS
    number = 0
    while number < len(lines):
        line, number = lines[number], number + 1
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip(" "))
        is_item = stripped.startswith("- ")
        if (is_item and indent <= step.indent) or indent < step.indent:
            yield from _step(step, key, files)
            step = _Step(indent=-1)
        dash = indent
        if match := re.match(r"(?:- +)*", stripped):
            indent += match.end()
            stripped = stripped[match.end() :]
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parent = parents[-1][1] if parents else ""
        if is_item and parent == "steps":
            step = _Step(indent=dash, folder=usual_folder)
        mapping = re.match(r"[\"']?([\w.-]+)[\"']?\s*:(?:\s+|$)", stripped)
        name, value = (mapping[1], stripped[mapping.end() :]) if mapping else ("", stripped)
        start = number
        if mapping:
            parents.append((indent, name))
        if block := re.fullmatch(r"([|>])[-+\d]*(?:\s+#.*)?", value):
            body = _block(lines, number, indent if mapping else dash)
            number, start = number + len(body), number + 1
            margin = min((len(each) - len(each.lstrip()) for each in body if each.strip()), default=0)
            value = ("\n" if block[1] == "|" else " ").join(each[margin:] for each in body)
        else:
            value = scalar(value)
        if parent in ("with", "env") and mapping:
            step.inputs[name] = (start, value)
        if name == "uses":
            step.uses, step.line = value, number
        elif name == "working-directory" and step.indent < 0:
            usual_folder = value  # Of `defaults:`.
        elif name == "working-directory":
            step.folder = value
        elif name in _SCRIPT_PARENTS or (is_item and not mapping and parent in _SCRIPT_PARENTS):
            step.scripts.append((start, value))
            if step.indent < 0:
                yield from _scripts(step, key, files)
                step.scripts = []
        if parent in env_parents and name == key:
            yield Effect(line=start - bool(block), value=value)
        elif parent in env_parents and not mapping and is_item and scalar(value).startswith(f"{key}="):
            yield Effect(line=start, value=scalar(value).partition("=")[2])
        elif name in ("name", "key") and value == key and any(each in env_parents for _, each in parents[:-1]):
            after = re.match(r"\s*value\s*:\s*(.*)", lines[number] if number < len(lines) else "")
            yield Effect(line=start, value=scalar(after[1]) if after else "")
        if name in env_parents and (flow := re.search(rf"[{{,]\s*[\"']?{key}[\"']?\s*:\s*([^,}}]*(?:}}}})?)", line)):
            yield Effect(line=number, value=scalar(flow[1]))
    yield from _step(step, key, files)


def _block(lines: Sequence[str], start: int, indent: int) -> list[str]:
    """The lines of a block text: all that are empty or further in than its key."""
    body = []
    for line in lines[start:]:
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            break
        body.append(line)
    return body


def _scripts(step: _Step, key: str, files: Sequence[str]) -> Iterator[Effect]:
    for line, script in step.scripts:
        done = shell_effects(script, key, files, folder=step.folder)
        for effect in (each for each in done if not each.mode):  # A workflow may build for several modes.
            yield replace(effect, line=line + effect.line - 1)


def _step(step: _Step, key: str, files: Sequence[str]) -> Iterator[Effect]:
    """What a step does by its script, or by an action that writes an env file or sets variables."""
    yield from _scripts(step, key, files)
    action = step.uses.partition("@")[0].lower()
    if not action or action.startswith(("actions/", "./")) or action.endswith(("/fetch-model", ".yml", ".yaml")):
        return
    sets = [
        (line, found[1].strip().strip("\"'") if found else value)
        for name, (line, value) in step.inputs.items()
        for found in [re.search(rf"^\s*[\"']?{key}[\"']?\s*[=:](.*)$", value, re.MULTILINE)]
        if found or re.fullmatch(rf"(?:env(?:key)?[-_])?{key}", name, re.IGNORECASE)
    ]
    writes = bool(_WRITING_ACTION.search(action.partition("/")[2]))
    named = [
        value
        for name, (_, value) in step.inputs.items()
        if (_FILE_INPUT if writes else _WRITTEN_INPUT).search(name)
        and "\n" not in value
        and posixpath.basename(value).startswith(".env")
    ]
    if not writes and not named:
        yield from (Effect(line=line, value=value) for line, value in sets)
    folders = [value for name, (_, value) in step.inputs.items() if name in ("directory", "dir", "folder")]
    folder = folders[0] if folders else step.folder
    for target in named or ([".env"] if writes and "env" in action else []):
        if posixpath.basename(target) in files:
            value = sets[-1][1] if sets else None
            file = posixpath.normpath(posixpath.join(folder, target))
            yield Effect(line=step.line, file=file, value=value, replaces=True)
