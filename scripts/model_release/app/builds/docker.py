"""Dockerfiles: what holds where they build the app."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from model_release.app.builds.effect import Effect, scalar
from model_release.app.builds.shell import shell_effects

_BUILD = re.compile(r"build|vite|generate|\b(?:npm|npx|yarn|pnpm|bun|node|make|turbo|nx|sh|bash)\b")


def docker_effects(text: str, key: str, files: Sequence[str]) -> Iterator[Effect]:
    """What holds where a `RUN` builds: instructions before it in its stage, and what it does itself."""
    stages: dict[str, list[Effect]] = {}
    held: list[Effect] = []
    for start, instruction, rest in _instructions(text):
        if instruction == "FROM" and rest:
            image, *alias = [word for word in rest.split() if not word.startswith("--")] or [""]
            held = list(stages.get(image.lower(), ()))
            stages[alias[-1].lower() if alias else ""] = held  # The very list: it may grow.
        elif instruction == "ENV":
            pairs = re.findall(r"([A-Za-z_]\w*)=(\"(?:\\.|[^\"])*\"|'[^']*'|\S*)", rest) or [rest.split(None, 1)]
            values = (scalar("".join(pair[1:])) for pair in pairs if pair and pair[0] == key)
            held += [Effect(line=start, value=value) for value in values]
        elif instruction == "ARG" and re.match(rf"{key}(?:=|\s|$)", rest):
            value = scalar(rest.partition("=")[2])
            advice = f"Remove it, or never give --build-arg {key}."
            how = "" if value else f"it takes {key} from --build-arg, and Vite takes that before any file. {advice}"
            held.append(Effect(line=start, value=value, problem=how))
        elif instruction in ("COPY", "ADD"):
            words = [word for word in rest.split() if not word.startswith("--")]
            names = [posixpath.basename(word) for word in words]
            if len(words) == 2 and names[0] not in (names[1], "", ".", "*") and names[1] in files:
                held.append(Effect(line=start, file=names[1], replaces=True))
        elif instruction == "RUN":
            run = (each for each in shell_effects(re.sub(r"^(?:--\S+\s+)+", "", rest), key, files) if not each.mode)
            held += [replace(each, line=start, file=posixpath.basename(each.file)) for each in run]
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
