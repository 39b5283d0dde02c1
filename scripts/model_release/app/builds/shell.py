"""What a shell script does to a variable and to env files: text in, findings out.

A reader of words, not a shell: what is behind variables, functions and other files stays unknown, and is said to be.
Bash is read, with the words of PowerShell and cmd that set variables or write files.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from model_release.app.builds.effect import Effect

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\r]+ | \\\r?\n )
  | (?P<comment> (?<![^\s;&|()]) \# [^\n]* )
  | (?P<operator> \n | && | \|\|? | &>>? | ; | \d*>>?[|&]? | <<<? -? | < | & | [()] )
  | (?P<word> (?: \\. | '[^']*' | "(?:\\.|[^"\\])*" | \$\{\{.*?\}\} | \$\([^()]*\) | `[^`]*` | [^\s'"\\;&|<>()]
                | ['"\\] )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ENDS = frozenset({"\n", "&&", "||", ";", "&", "(", ")"})
_SETTERS = frozenset({"export", "declare", "typeset", "env", "cross-env", "cross-env-shell", "set", "setx", "dotenv"})
_BEFORE = frozenset({"then", "do", "else", "if", "elif", "while", "!", "time", "sudo", "exec", "command", "}"})
_GIVES = frozenset({"--build-arg", "-e", "--env", "-v"})
_COPIERS = frozenset({"cp", "mv", "install", "copy", "move", "Copy-Item", "Move-Item", "ln"})
_WRITERS = {"Out-File": ">", "Set-Content": ">", "Add-Content": ">>"}


@dataclass(kw_only=True)
class _Command:
    """Words up to the next `;` or line; a pipe's parts are commands of their own."""

    line: int
    words: list[str] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)  # operator, target
    document: str | None = None  # of `<<EOF`
    before: "_Command | None" = None  # whose output comes through a pipe


def shell_effects(script: str, key: str, files: Sequence[str], *, folder: str = "") -> Iterator[Effect]:
    """What a script does to a key, for the programs that it starts and in env files.

    Args:
        script: Its text.
        key: The variable.
        files: Names of the env files that count.
        folder: Where it runs, if that is known.

    Yields:
        Each effect; its file with its folder, as far as that is known.
    """
    group: list[_Command] = []
    for command in _commands(script):
        words = command.words
        if words[:1] == ["cd"] and len(words) > 1:
            folder = posixpath.normpath(posixpath.join(folder, words[1]))
        group = [command] if words[:1] == ["{"] else [*group, command]
        yield from _set(command, key, exported=f"export {key}" in script)
        if mode := re.search(r"\bvite(?:\.js)? build\b.*?(?:--mode|\s-m)[ =]([\w-]+)", " ".join(words)):
            yield Effect(line=command.line, mode=mode[1])
        content = _content(command) if words[:1] != ["}"] else "\n".join(_content(each) or "$" for each in group[:-1])
        for operator, target in _targets(command):
            value = _assigned(content, key)
            name = posixpath.basename(target.replace("\\", "/"))
            if re.fullmatch(r"\$(?:env:|\{)?GITHUB_ENV\}?", target):
                if value is not None:
                    yield Effect(line=command.line, value=value)
            elif name in files and not (operator == "sed" and key not in " ".join(words)):
                yield Effect(
                    line=command.line,
                    file=posixpath.normpath(posixpath.join(folder, target)),
                    value=value,
                    is_known=content is not None and not _is_open(content),
                    replaces=not operator.endswith((">>", "sed")),
                )


def _commands(script: str) -> list[_Command]:
    """The commands of a script, with what they write."""
    script = re.sub(r"\$\{\{.*?\}\}", lambda match: match[0].replace(" ", ""), script)
    done: list[_Command] = []
    now = _Command(line=1)
    waiting: list[tuple[_Command, str]] = []  # commands whose document begins behind this line, and its end
    expects = ""
    position, line = 0, 1
    while match := _TOKEN.match(script, position):
        position, text = match.end(), match[0]
        if match["operator"] is not None:
            if re.fullmatch(r"&?\d*>>?[|&]?|&>>?|<<<?-?|<", text):
                expects = text
            if text in _ENDS or text in ("|", "||"):
                done.append(now)
                words = {"(": ["{"], ")": ["}"]}.get(text, [])
                now = _Command(line=line + (text == "\n"), words=words, before=now if text == "|" else None)
            if text == "\n":
                for command, end in waiting:
                    found = re.compile(rf"^[ \t]*{re.escape(end)}[ \t]*$", re.MULTILINE).search(script, position)
                    stop = found.start() if found else len(script)
                    command.document = script[position:stop]
                    line += script.count("\n", position, found.end() if found else stop)
                    position = found.end() if found else stop
                waiting = []
        elif match["word"] is not None:
            if expects in ("<<", "<<-"):
                waiting.append((now, _plain(text)))
            elif expects == "<<<":
                now.document = _plain(text)
            elif ">" in expects:
                if not expects.startswith("2"):
                    now.writes.append((expects.strip("1|&") or ">", _plain(text)))
            elif expects != "<":
                now.words.append(_plain(text))
            now.line = line if len(now.words) + len(now.writes) <= 1 else now.line
            expects = ""
        line += text.count("\n")
    for each in (*done, now):
        while len(each.words) > 1 and each.words[0] in _BEFORE:
            each.words.pop(0)
    return [each for each in (*done, now) if each.words or each.writes]


def _plain(word: str) -> str:
    """A word without its quotes."""

    def bare(match: re.Match[str]) -> str:
        return match[1] or re.sub(r"\\([\"$`\\])", r"\1", match[2] or "") or match[3] or ""

    return re.sub(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)", bare, word)


def _set(command: _Command, key: str, *, exported: bool) -> Iterator[Effect]:
    """A variable that is set for programs: before one, by a command for it, or as an argument of a build."""
    words = command.words
    count = next((i for i, word in enumerate(words) if not re.match(r"[A-Za-z_]\w*=", word)), len(words))
    for i, word in enumerate(words):
        name, is_set, value = word.removeprefix("--build-arg=").removeprefix("--env=").partition("=")
        by_program = words[0] not in ("echo", "printf") and bool(_SETTERS & set(map(posixpath.basename, words[:i])))
        before = i < count and (count < len(words) or exported)
        given = (i > 0 and words[i - 1] in _GIVES) or word.startswith(("--build-arg=", "--env="))
        if name == key and is_set and (before or by_program or given):
            yield Effect(line=command.line, value=value)
        elif name.lower() == f"$env:{key}".lower() and (is_set or words[i + 1 : i + 2] == ["="]):
            yield Effect(line=command.line, value=value or " ".join(words[i + 2 : i + 3]))


def _targets(command: _Command) -> Iterator[tuple[str, str]]:
    """Files that a command writes, with `>` or `>>`, or `sed` for an edit."""
    yield from command.writes
    words = command.words
    name = posixpath.basename(words[0]) if words else ""
    plain = [word for word in words[1:] if not word.startswith("-")]
    if name == "tee":
        appends = any(re.fullmatch(r"-\w*a\w*|--append", word) for word in words)
        yield from ((">>" if appends else ">", word) for word in plain)
    elif name in _COPIERS and len(plain) > 1:
        folder = "" if not plain[-1].endswith(("/", ".")) or "/.env" in plain[-1] else plain[-1]
        yield ">", posixpath.join(folder, posixpath.basename(plain[0])) if folder else plain[-1]
    elif name in ("rm", "del", "Remove-Item", "truncate"):
        yield from ((">", word) for word in plain)
    elif name == "sed" and any(re.match(r"-\w*i|--in-place", word) for word in words):
        yield from (("sed", word) for word in plain)
    elif name in _WRITERS:
        appends = _WRITERS[name] == ">>" or "-Append" in words
        yield from ((">>" if appends else ">", word) for word in words[1:] if not word.startswith("-"))
    elif name == "vercel" and words[1:3] == ["env", "pull"]:
        yield ">", next(iter(plain[2:]), ".env.local")
    for i, word in enumerate(words[:-1]):
        if word in ("-o", "--output", "--out", "--out-file", "--output-file") and name not in ("grep", "set"):
            yield ">", words[i + 1]


def _content(command: _Command) -> str | None:
    """What a command prints; None where that cannot be told."""
    words = command.words
    words = words[1:] if words[:1] == ["{"] else words
    name = words[0] if words else ""
    if name in ("echo", "printf", "Write-Output"):
        texts = [word for word in words[1:] if not re.fullmatch(r"-[neE]+", word)]
        while name == "printf" and len(texts) > 1 and "%s" in texts[0]:
            texts[0] = texts[0].replace("%s", texts.pop(1), 1)
        return " ".join(texts).replace("\\n", "\n")
    if command.document is not None:
        return command.document
    if name in _WRITERS and any("=" in word for word in words):
        return "\n".join(words[1:])
    if command.before is not None and name in ("tee", *_WRITERS):
        return _content(command.before)
    if name in ("rm", "del", "Remove-Item", "truncate", ":", ""):
        return ""
    return None


def _assigned(content: str | None, key: str) -> str | None:
    """The value that the last line about a key gives it."""
    found = re.findall(rf"^\s*(?:export\s+)?[\"']?{re.escape(key)}\s*=(.*)$", content or "", re.MULTILINE)
    return found[-1].strip().strip("\"'") if found else None


def _is_open(content: str) -> bool:
    """Whether a line may be any assignment: it is a variable, or the output of a program."""
    return any(re.match(r"\s*[$`]", line) for line in content.splitlines())
