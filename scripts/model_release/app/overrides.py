"""Who else sets the model's URL, so that the committed line would not count? Texts in, warnings out.

Vite takes the environment of the build first, then `.env.[mode].local`, `.env.[mode]`, `.env.local`, `.env`
(https://vite.dev/guide/env-and-mode; `loadEnv` in vite's src/node/env.ts, 5 to 8). Vite 8 reads files with
Node's `util.parseEnv`, which misreads some layouts that `dotenv` reads; those named here were run on Node
20.20, 22.23 and 24.21.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_release.app.envfile import URL_KEY, get_value
from model_release.base.errors import EnvFileError
from model_release.base.text import quoted

_MAX_WORKFLOW_BYTES = 1 << 20


def find_shadows(
    expected: Mapping[str, str],
    *,
    file: str,
    files: Mapping[str, str],
    workflows: Mapping[str, str],
    environment: Mapping[str, str],
) -> tuple[str, ...]:
    """What would override or blank the values that the app shall be built with.

    Args:
        expected: Value by key.
        file: Name of the env file that holds them.
        files: Text by name of the env files in its folder, itself included.
        workflows: Text by name of the repository's workflows.
        environment: The environment of the build, as far as it is known.

    Returns:
        A sentence each: what it is, and what to do.
    """
    warnings = []
    for key, value in expected.items():
        if key in environment and environment[key] != value:
            warnings.append(
                f"the environment sets {key} to {_quoted(environment[key])}, and Vite takes it before any file. "
                "Unset it for the app's build."
            )
        for name in _before(file):
            found = _value(files.get(name, ""), key)
            if found is not None and found != value and not _is_fetched_copy(found, value):
                warnings.append(
                    f"{name} sets {key} to {_quoted(found)}, and Vite reads it before {file}. Delete the line"
                    f"{', or run fetch.py again' if '://' in expected.get(URL_KEY, '') else ''}."
                )
        for name in (file, *_before(file)):
            warnings += [
                f"{name} {problem}, and Vite 8 then misses or misreads {key}. Put KEY=value on a plain line of its own."
                for problem in _misread_by_node(files.get(name, ""), key)
            ]
        for name, text in workflows.items():
            warnings += [f"{name} line {line}: {problem}" for line, problem in _set_in_workflow(text, key, value)]
    return tuple(warnings)


def find_shadows_beside(env_file: Path, expected: Mapping[str, str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """`find_shadows` with the files and workflows that lie around an env file.

    Args:
        env_file: Where the values are.
        expected: Value by key.
        environment: The environment of the build; empty where it is not known.
    """
    names = (env_file.name, *_before(env_file.name))
    files = {name: _text(env_file.parent / name) for name in names}
    workflows = {}
    for folder in env_file.absolute().parents:
        if (folder / ".github" / "workflows").is_dir():
            for path in sorted((folder / ".github" / "workflows").iterdir()):
                if path.suffix in (".yml", ".yaml"):
                    workflows[f".github/workflows/{path.name}"] = _text(path)
        if workflows or (folder / ".git").exists():
            break
    return find_shadows(expected, file=env_file.name, files=files, workflows=workflows, environment=environment)


def _before(file: str) -> tuple[str, ...]:
    """The files Vite reads before this one; for `.env` and `.env.local`, those of a production build.

    >>> _before(".env.production"), _before(".env.local")
    (('.env.production.local',), ('.env.production.local', '.env.production'))
    """
    if file in (".env", ".env.local"):
        order = (".env.production.local", ".env.production", ".env.local", ".env")
        return order[: order.index(file)]
    if file.endswith(".local"):
        return ()
    return (f"{file}.local",)


def _value(text: str, key: str) -> str | None:
    """What a file says of a key; the reference itself where it refers to something else."""
    try:
        return get_value(text, key)
    except EnvFileError:
        return "a reference to another variable"


def _is_fetched_copy(found: str, value: str) -> bool:
    """Whether it is the same file from the app's own origin, as fetch.py writes it: the `?v=` is the same."""
    return "?v=" in value and "://" not in found and found.rpartition("?v=")[2] == value.rpartition("?v=")[2]


def _misread_by_node(text: str, key: str) -> Iterator[str]:
    """Layouts around a key that `dotenv` reads and Node does not."""
    name = re.escape(key)
    at = re.search(rf"^\ufeff?[^\S\r\n]*(?:export\s+)?{name}\s*[=:]", text, re.MULTILINE)
    if re.search(r"\r(?!\n)", text):
        yield "has line ends of a lone carriage return"
    if at is None:
        return
    assignment = at.group()
    start, is_open = _without_quoted(text[: at.start()])
    if assignment.endswith(":"):
        yield "has a colon in place of ="
    if assignment.startswith("\ufeff"):
        yield "has a byte order mark right before the key"
    indent = re.match(r"[^\S\r\n]*", assignment.removeprefix("\ufeff"))
    if indent and indent.group().strip(" "):
        yield "has other white space than spaces before the key"
    if re.search(r"export(?! [^ ])", assignment):
        yield "has other than one space behind export"
    above = [line for line in start.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if re.search(r"^[^\n#=]+=[^\S\r\n]+\r?\n\s*\Z", start, re.MULTILINE):
        yield "has nothing but white space as the value above the key"
    elif above and "=" not in above[-1] and not is_open:
        yield "has a line without = above the key"
    if is_open:
        yield "has a quote above the key that is not closed on its line"


def _without_quoted(text: str) -> tuple[str, bool]:
    r"""The text without values in quotes, and whether one is still open at its end.

    >>> _without_quoted("A='x\ny'\n")
    ("A=''\n", False)
    >>> _without_quoted("A='x\nB=it's\n")[1], _without_quoted("A='x\n")[1]
    (False, True)
    """
    position = 0
    while match := re.compile(r"^[^\n#=]+=[^\S\n]*(['\"`])", re.MULTILINE).search(text, position):
        end = text.find(match[1], match.end())
        if end < 0:
            return text, True
        text = text[: match.end()] + text[end:]
        position = match.end() + 1
    return text, False


def _set_in_workflow(text: str, key: str, value: str) -> Iterator[tuple[int, str]]:
    """Lines of a workflow that set a key for its steps: under `env:`, or in a script.

    It looks at lines, not at YAML: a comment or an odd layout may be missed, a warning is no judgement.
    """
    name = re.escape(key)
    parents: list[tuple[int, str]] = []  # Indent and key of the lines that this one is below.
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if match := re.match(r"(?:- +)*", stripped):
            indent += match.end()
            stripped = stripped[match.end() :]
        while parents and parents[-1][0] >= indent:
            parents.pop()
        is_env = bool(parents) and parents[-1][1] == "env"
        mapping = re.match(r"[\"']?([\w-]+)[\"']?\s*:(?:\s|$)", stripped)
        if mapping:
            parents.append((indent, mapping[1]))
        flow = (
            mapping and mapping[1] == "env" and re.search(rf"[{{,]\s*[\"']?{name}[\"']?\s*:\s*([^,}}]*(?:}}}})?)", line)
        )
        block = mapping and mapping[1] == key and is_env
        script = re.search(rf"(?:^|run:|export|env|[;&|]|echo)\s+[\"']?{name}=(.*)", " " + stripped)
        if block:
            found = stripped[mapping.end() :] if mapping else ""
        elif flow:
            found = flow[1]
        elif script and ("GITHUB_ENV" in line or not re.search(r"\becho\b", line)):
            found = re.split(r"\s+>>|\s", script[1])[0] if "${{" not in script[1] else script[1]
        else:
            continue
        if problem := _problem(key, found, value):
            yield number, problem


def _problem(key: str, found: str, value: str) -> str | None:
    """What a workflow's value does to the committed one."""
    found = re.sub(r"\s+#.*", "", found).strip().strip("\"'")
    if found == value:
        return None
    sentence = f"it sets {key} to {_quoted(found)}, and Vite takes it before any file"
    if source := re.search(r"\$\{\{\s*((?:secrets|vars|env|inputs)\.[\w-]+)", found):
        sentence += f"; where {source[1]} is not set, the value is blank"
    return f"{sentence}. Remove it from the app's build."


def _quoted(text: str) -> str:
    """A value for a warning."""
    return quoted(text, 80) if text else "nothing"


def _text(path: Path) -> str:
    """A file's text as `envfile` wants it; nothing where there is none to read."""
    try:
        if path.stat().st_size > _MAX_WORKFLOW_BYTES:
            return ""
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError:
        return ""
