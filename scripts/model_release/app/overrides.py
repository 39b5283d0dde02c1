"""Who else sets the model's URL, so that the committed line would not count? Texts in, warnings out.

Vite takes the environment of the build first, then `.env.[mode].local`, `.env.[mode]`, `.env.local`, `.env`
(https://vite.dev/guide/env-and-mode; `loadEnv` in vite's src/node/env.ts, 5 to 8). Vite 8 reads files with
Node's `util.parseEnv`, which misreads some layouts that `dotenv` reads; those named here were run on Node
20.20, 22.23 and 24.21.
"""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_release.app.builds.build_files import build_files_of, findings
from model_release.app.builds.effect import Effect, mode_of
from model_release.app.envfile import URL_KEY, get_value
from model_release.base.errors import EnvFileError
from model_release.base.files import read_bytes
from model_release.base.text import quoted

NOT_LOOKED_AT = (
    "not looked at: variables set in the settings of GitHub or of a host (Vercel, Netlify, Cloudflare Pages), "
    "and scripts in files of their own"
)
"""What may set the model's URL and cannot be found from here."""

MAX_BUILD_FILES = 60
_MAX_BYTES = 1 << 20
_MAX_PATHS = 20_000
_MAX_WARNINGS = 10  # Of one file.
_NOT_OURS = frozenset({".git", "node_modules", ".venv", "venv", "dist", "build", "target", "__pycache__", ".next"})
_OPENED = re.compile(r"^[^\n#=]+=[^\S\n]*(['\"`])", re.MULTILINE)


def find_shadows(
    expected: Mapping[str, str],
    *,
    file: str,
    files: Mapping[str, str],
    workflows: Mapping[str, str],
    environment: Mapping[str, str],
    folder: str | None = None,
) -> tuple[str, ...]:
    """What would override or blank the values that the app shall be built with.

    Args:
        expected: Value by key.
        file: Name of the env file that holds them.
        files: Text by name of the env files in its folder, itself included.
        workflows: Text by path of what builds the app: see `builds.build_files.build_files_of`.
        environment: The environment of the build, as far as it is known.
        folder: The env file's in the repository; None where that is not known.

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
            other = _value(files.get(name, ""), key)
            if other is not None and other != value and not _is_fetched_copy(other, value):
                warnings.append(
                    f"{name} sets {key} to {_quoted(other)}, and Vite reads it before {file}. Delete the line"
                    f"{', or run fetch.py again' if '://' in expected.get(URL_KEY, '') else ''}."
                )
        for name in (file, *_before(file)):
            warnings += [
                f"{name} {problem}, and Vite 8 then misses or misreads {key}. Put KEY=value on a plain line of its own."
                for problem in _misread_by_node(files.get(name, ""), key)
            ]
        for name, text in workflows.items():
            told: dict[str, str] = {}
            for effect in findings(name, text, key, (file, *_before(file)), folder):
                place = f"{name} line {effect.line}: "
                if (problem := _problem(effect, key, value, file)) and not any(w.startswith(place) for w in warnings):
                    told.setdefault(place, problem)
                if len(told) == _MAX_WARNINGS:
                    break
            warnings += [place + problem for place, problem in told.items()]
    return tuple(dict.fromkeys(warnings))


def find_shadows_beside(env_file: Path, expected: Mapping[str, str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """`find_shadows` with the files and workflows that lie around an env file.

    Args:
        env_file: Where the values are.
        expected: Value by key.
        environment: The environment of the build; empty where it is not known.
    """
    names = (env_file.name, *_before(env_file.name))
    files = {name: _text(env_file.parent / name) for name in names}
    home = env_file.parent.absolute()
    above = (home, *home.parents)
    marked = [each for name in (".git", ".github") for each in above if (each / name).exists()]
    root = marked[0] if marked else home
    folder = home.relative_to(root).as_posix().removeprefix(".")
    builds = build_files_of(_paths(root, deep=bool(marked)), folder)
    return find_shadows(
        expected,
        file=env_file.name,
        files=files,
        workflows={path: _text(root / path) for path in builds[:MAX_BUILD_FILES]},
        environment=environment,
        folder=folder,
    )


def _paths(root: Path, *, deep: bool) -> list[str]:
    """The files of a repository, without what was installed or built."""
    found: list[str] = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if each not in _NOT_OURS) if deep else []
        found += (Path(place, name).relative_to(root).as_posix() for name in sorted(names))
        if len(found) > _MAX_PATHS:
            break
    return found


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
    kept, position, parts = 0, 0, []
    while match := _OPENED.search(text, position):
        end = text.find(match[1], match.end())
        parts.append(text[kept : match.end()])
        kept = match.end() if end < 0 else end
        if end < 0:
            break
        position = end + 1
    return "".join([*parts, text[kept:]]), match is not None


def _problem(effect: Effect, key: str, value: str, file: str) -> str | None:
    """What a line of a build file does to the committed value; None if nothing."""
    if effect.problem:
        return effect.problem
    if effect.mode:
        is_other = mode_of(file) not in ("", effect.mode)
        return (
            f"it builds with the mode {effect.mode}, and Vite reads .env.{effect.mode} and not {file}. "
            f"Name .env.{effect.mode} as --env-file, or leave the mode out."
            if is_other
            else None
        )
    if effect.file:
        return _problem_of_written(effect, key, value, file)
    if effect.value == value:
        return None
    sentence = f"it sets {key} to {_quoted(effect.value or '')}, and Vite takes it before any file"
    return f"{sentence}{_where_unset(effect.value or '')}. Remove it from the app's build."


def _problem_of_written(effect: Effect, key: str, value: str, file: str) -> str | None:
    """What it does that a build writes an env file itself."""
    name = posixpath.basename(effect.file)
    if file.endswith(".local") or effect.value == value:
        return None  # fetch.py sets our keys in what is written before it.
    if effect.value is not None:
        return (
            f"it sets {key} to {_quoted(effect.value)} in {name}{_where_unset(effect.value)}, and Vite takes that. "
            "Remove it from the app's build."
        )
    if effect.is_known and (not effect.replaces or name != file):
        return None
    if not effect.replaces:
        return f"it may set {key} in {name}: what it adds there cannot be seen from here. Take {key} out of it."
    if name == file:
        return f"it replaces {name}, and what a release has set there is gone. Add other variables to another env file."
    return f"it writes {name}, which Vite reads before {file}: what is in it cannot be seen from here. Keep {key} out."


def _where_unset(found: str) -> str:
    source = re.search(r"\$\{\{\s*((?:secrets|vars|env|inputs)\.[\w-]+)", found)
    return f"; where {source[1]} is not set, the value is blank" if source else ""


def _quoted(text: str) -> str:
    """A value for a warning."""
    return quoted(text, 80) if text else "nothing"


def _text(path: Path) -> str:
    """A file's text as `envfile` wants it; nothing where there is none to read."""
    try:
        return read_bytes(path, limit_bytes=_MAX_BYTES).decode("utf-8", errors="surrogateescape")
    except OSError:
        return ""
