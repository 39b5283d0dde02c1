"""What the files of a build do to a variable: workflows, scripts, Dockerfiles, settings of hosts and of Vite.

Texts in, findings out. Lines are looked at where a library would be needed for more: a warning is no judgement.
"""

import json
import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model_release.app.shell import Effect, effects

ACTION_FILES = re.compile(r"(?:.*/)?\.github/(?:workflows/[^/]+|actions/.+/action)\.ya?ml")
_CI = re.compile(
    r"\.gitlab-ci\.ya?ml|\.circleci/config\.ya?ml|bitbucket-pipelines\.yml|azure-pipelines\.ya?ml|\.travis\.yml|"
    r"amplify\.yml|render\.ya?ml|cloudbuild\.ya?ml|(?:docker-)?compose[\w.-]*\.ya?ml"
)
_DOCKER = re.compile(r"(?:[\w.-]+\.)?(?:Docker|Container)file(?:\.[\w.-]+)?")
_VITE = re.compile(r"(?:vite|astro|nuxt)\.config\.[cm]?[jt]s")
_OTHERS = ("package.json", "netlify.toml", "vercel.json")
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
_LONGEST_LINE = 2_000
_BUILD = re.compile(r"build|vite|generate|\b(?:npm|npx|yarn|pnpm|bun|node|make|turbo|nx|sh|bash)\b")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a line of a file does.

    Attributes:
        effect: See `shell.Effect`.
        problem: All that there is to say, where it is not about a value.
    """

    effect: Effect
    problem: str = ""


def is_build_file(path: str) -> bool:
    """Whether a file of a repository says how something is built.

    >>> [is_build_file(p) for p in ("a/Dockerfile", ".github/workflows/x.yml", "web/vite.config.ts", "src/x.yml")]
    [True, True, True, False]
    """
    name = posixpath.basename(path)
    return bool(
        ACTION_FILES.fullmatch(path)
        or _CI.fullmatch(path)
        or _CI.fullmatch(name)
        or _DOCKER.fullmatch(name)
        or _VITE.fullmatch(name)
        or name in _OTHERS
    )


def build_files_of(paths: Iterable[str], folder: str) -> list[str]:
    """The files among a repository's that build the app with its env file in `folder`: not those of other packages."""
    paths = list(paths)
    packages = {posixpath.dirname(path) for path in paths if posixpath.basename(path) == "package.json"}

    def is_ours(path: str) -> bool:
        above = _above(posixpath.dirname(path))
        package = next((each for each in above if each in packages), "")
        return package in _above(folder)

    return [path for path in paths if is_build_file(path) and is_ours(path)]


def mode_of(file: str) -> str:
    """The mode whose builds read an env file; nothing where all do.

    >>> mode_of(".env.production.local"), mode_of(".env.local")
    ('production', '')
    """
    return file.removesuffix(".local").removeprefix(".env").removeprefix(".")


def findings(path: str, text: str, key: str, files: Sequence[str], folder: str | None) -> Iterator[Found]:
    """What a file does to a key.

    Args:
        path: The file in the repository.
        text: What stands in it.
        key: The variable.
        files: Names of the env files that count, the committed one first.
        folder: Where these are in the repository; None where that is not known.
    """
    name = posixpath.basename(path)
    at = posixpath.dirname(path)
    if not name.endswith(".json"):  # What nobody wrote by hand could take as long as its writer likes.
        text = "\n".join(line[:_LONGEST_LINE] for line in text.split("\n"))
    if name == "package.json":
        found = _package(text, key, files, at)
    elif name == "vercel.json":
        found = _vercel(text, key, files, at)
    elif name == "netlify.toml":
        found = _netlify(text, key, files, at)
    elif _VITE.fullmatch(name):
        found = _vite(text, key, files, at, folder)
    elif _DOCKER.fullmatch(name):
        found = _docker(text, key, files)
    else:
        found = _yaml(text, key, files, is_compose="compose" in name)
    for each in found:
        if not each.effect.file or folder is None or _may_be(posixpath.dirname(each.effect.file), folder):
            yield each


def _may_be(written: str, folder: str) -> bool:
    """Whether a folder, as a script names it from where it runs, may be the one of the env file."""
    parts = [part for part in written.split("/") if part not in ("", ".")]
    if ".." in parts or "$" in written:
        return True
    return not parts or folder.split("/")[-len(parts) :] == parts


def _above(folder: str) -> list[str]:
    """A folder and all above it, the root as an empty text last."""
    found = [folder]
    while folder:
        folder = posixpath.dirname(folder)
        found.append(folder)
    return found


def _line_of(text: str, pattern: str) -> int:
    """The line where something stands, from 1."""
    match = re.search(pattern, text, re.MULTILINE)
    return 1 + text.count("\n", 0, match.start() if match else 0)


# -- YAML: workflows and other services'


@dataclass(kw_only=True)
class _Step:
    """A step of a workflow that uses an action."""

    indent: int
    uses: str = ""
    line: int = 0
    folder: str = ""
    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    scripts: list[tuple[int, str]] = field(default_factory=list)


def _yaml(text: str, key: str, files: Sequence[str], *, is_compose: bool) -> Iterator[Found]:
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
            value = _scalar(value)
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
            yield Found(effect=Effect(line=start - bool(block), value=value))
        elif parent in env_parents and not mapping and is_item and _scalar(value).startswith(f"{key}="):
            yield Found(effect=Effect(line=start, value=_scalar(value).partition("=")[2]))
        elif name in ("name", "key") and value == key and any(each in env_parents for _, each in parents[:-1]):
            after = re.match(r"\s*value\s*:\s*(.*)", lines[number] if number < len(lines) else "")
            yield Found(effect=Effect(line=start, value=_scalar(after[1]) if after else ""))
        if name in env_parents and (flow := re.search(rf"[{{,]\s*[\"']?{key}[\"']?\s*:\s*([^,}}]*(?:}}}})?)", line)):
            yield Found(effect=Effect(line=number, value=_scalar(flow[1])))
    yield from _step(step, key, files)


def _block(lines: Sequence[str], start: int, indent: int) -> list[str]:
    """The lines of a block text: all that are empty or further in than its key."""
    body = []
    for line in lines[start:]:
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            break
        body.append(line)
    return body


def _scalar(text: str) -> str:
    """A value without quotes and comment."""
    text = text.strip()
    if quoted := re.match(r"'((?:[^']|'')*)'|\"((?:[^\"\\]|\\.)*)\"", text):
        return (quoted[1] or "").replace("''", "'") or re.sub(r"\\(.)", r"\1", quoted[2] or "")
    return re.sub(r"(?:^|(?<=\s))#.*", "", text).strip()


def _scripts(step: _Step, key: str, files: Sequence[str]) -> Iterator[Found]:
    for line, script in step.scripts:
        done = effects(script, key, files, folder=step.folder)
        for effect in (each for each in done if not each.mode):  # A workflow may build for several modes.
            yield Found(effect=replace(effect, line=line + effect.line - 1))


def _step(step: _Step, key: str, files: Sequence[str]) -> Iterator[Found]:
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
        yield from (Found(effect=Effect(line=line, value=value)) for line, value in sets)
    folders = [value for name, (_, value) in step.inputs.items() if name in ("directory", "dir", "folder")]
    folder = folders[0] if folders else step.folder
    for target in named or ([".env"] if writes and "env" in action else []):
        if posixpath.basename(target) in files:
            value = sets[-1][1] if sets else None
            file = posixpath.normpath(posixpath.join(folder, target))
            yield Found(effect=Effect(line=step.line, file=file, value=value, replaces=True))


# -- Docker


def _docker(text: str, key: str, files: Sequence[str]) -> Iterator[Found]:
    """What holds where a `RUN` builds: instructions before it in its stage, and what it does itself."""
    stages: dict[str, list[Found]] = {}
    held: list[Found] = []
    for start, instruction, rest in _instructions(text):
        if instruction == "FROM" and rest:
            image, *alias = [word for word in rest.split() if not word.startswith("--")] or [""]
            held = list(stages.get(image.lower(), ()))
            stages[alias[-1].lower() if alias else ""] = held  # The very list: it may grow.
        elif instruction == "ENV":
            pairs = re.findall(r"([A-Za-z_]\w*)=(\"(?:\\.|[^\"])*\"|'[^']*'|\S*)", rest) or [rest.split(None, 1)]
            values = (_scalar("".join(pair[1:])) for pair in pairs if pair and pair[0] == key)
            held += [Found(effect=Effect(line=start, value=value)) for value in values]
        elif instruction == "ARG" and re.match(rf"{key}(?:=|\s|$)", rest):
            value = _scalar(rest.partition("=")[2])
            advice = f"Remove it, or never give --build-arg {key}."
            how = "" if value else f"it takes {key} from --build-arg, and Vite takes that before any file. {advice}"
            held.append(Found(effect=Effect(line=start, value=value), problem=how))
        elif instruction in ("COPY", "ADD"):
            words = [word for word in rest.split() if not word.startswith("--")]
            names = [posixpath.basename(word) for word in words]
            if len(words) == 2 and names[0] not in (names[1], "", ".", "*") and names[1] in files:
                held.append(Found(effect=Effect(line=start, file=names[1], replaces=True)))
        elif instruction == "RUN":
            run = (each for each in effects(re.sub(r"^(?:--\S+\s+)+", "", rest), key, files) if not each.mode)
            held += [Found(effect=replace(each, line=start, file=posixpath.basename(each.file))) for each in run]
            if _BUILD.search(rest):
                yield from held
                held.clear()


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """A Dockerfile's instructions: line, word, and the rest with its continued lines."""
    start, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or (parts and not line.strip()):
            continue
        start = start if parts else number
        parts.append(re.sub(r"[\\`]\s*$", "", line).strip())
        if not re.search(r"[\\`]\s*$", line):
            instruction, _, rest = " ".join(parts).partition(" ")
            yield start, instruction.upper(), rest.strip()
            parts = []
    if parts:
        yield start, parts[0].partition(" ")[0].upper(), " ".join(parts).partition(" ")[2]


# -- settings of hosts, package scripts


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


def _command(text: object, line: int, key: str, files: Sequence[str], at: str) -> Iterator[Found]:
    for effect in effects(text, key, files, folder=at) if isinstance(text, str) else ():
        yield Found(effect=replace(effect, line=line))


def _package(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Found]:
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
        modes = {each.effect.mode for each in found if each.effect.mode}
        if name != "build" and modes - {mode_of(files[0]) or "production"}:
            continue  # A build of another kind.
        yield from found


def _vercel(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Found]:
    document = _json(text)
    for table in (_table(document, "build", "env"), _table(document, "env")):
        if key in table:
            yield Found(effect=Effect(line=_line_of(text, rf"\"{key}\"\s*:"), value=str(table[key])))
    for name in ("buildCommand", "installCommand"):
        yield from _command(document.get(name), _line_of(text, rf"\"{name}\"\s*:"), key, files, at)


def _netlify(text: str, key: str, files: Sequence[str], at: str) -> Iterator[Found]:
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
            yield Found(effect=Effect(line=_line_of(text, pattern), value=value))
        command = table.get("command")
        line = _line_of(text, rf"^\s*command\s*=\s*[\"']+{re.escape(str(command)[:20])}")
        yield from _command(command, line, key, files, posixpath.join(at, str(table.get("base", ""))))


# -- Vite's own


def _vite(text: str, key: str, files: Sequence[str], at: str, folder: str | None) -> Iterator[Found]:
    """`define`, `envDir`, `root`, `envPrefix` and the process's environment in a config of Vite."""
    code = _without_comments(text)
    value = r"\s*(?P<value>[^\n,}]*(?:\([^\n]*\))?)"
    for match in re.finditer(rf"import\.meta\.env\.{key}[\"'`]?\]?\s*:{value}", code):
        if not re.search(rf"(?<!process\.)(?<!meta\.)\benv(?:\.{key}\b|\[)", match["value"]):
            how = f"define puts {match['value'].strip()[:80]} in place of {key}, whatever env files say. Remove it."
            yield Found(effect=Effect(line=1 + code.count("\n", 0, match.start())), problem=how)
    for match in re.finditer(rf"process\.env(?:\.{key}|\[[\"']{key}[\"']\])\s*(?:\|\||\?\?)?=(?!=){value}", code):
        line = 1 + code.count("\n", 0, match.start())
        yield Found(effect=Effect(line=line, value=_scalar(match["value"].rstrip("; "))))
    options = dict(_options(code, ("envDir", "root", "envPrefix")))
    prefix = options.get("envPrefix")
    if prefix and (texts := _strings(prefix[1])) and not key.startswith(tuple(texts)):
        how = f"envPrefix lets the app see variables with {' or '.join(texts)} only, not {key}. Add VITE_ to it."
        yield Found(effect=Effect(line=prefix[0]), problem=how)
    line, where = options.get("envDir") or options.get("root") or (0, "")
    name = "envDir" if "envDir" in options else "root"
    if line and where.strip() == "false":
        yield Found(effect=Effect(line=line), problem=f"{name}: false has Vite read no env files. Remove it.")
    elif line and folder is not None and (texts := _strings(where)):
        found = posixpath.normpath(posixpath.join(at, *(each.lstrip("/") for each in texts))).removeprefix(".")
        if found != folder:
            place = found or "the repository's root"
            how = f"{name} has Vite read env files in {place}, so not this {files[0]}. Give --env-file there."
            yield Found(effect=Effect(line=line), problem=how)


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
