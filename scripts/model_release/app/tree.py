"""The web app's working tree: a release's model below its static folder, and its URL in the env file."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_release.app import envfile
from model_release.app.app import AppResult, Outcome, Released
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import MODELS_FOLDER
from model_release.app.overrides import NOT_LOOKED_AT, find_shadows_beside
from model_release.app.rules import ATTRIBUTES, IGNORED, MAX_RULES_BYTES, rule_files, tree_warnings
from model_release.base.errors import EnvFileError, HostError
from model_release.base.files import copy_file, is_file, is_writable, read_bytes, write_bytes
from model_release.base.progress import Progress, silent

_GIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class TreeApp:
    """A web app in a folder of this machine; see `WebApp`.

    Attributes:
        env_file: The env file to edit; it must exist unless `create_env_file`.
        static_dir: The folder the app serves at its base; models delivered by git go below it.
        progress: Told each line that changes, and what would override ours.
    """

    env_file: Path
    static_dir: Path
    create_env_file: bool = False
    progress: Progress = silent

    def describe(self) -> str:
        """See `WebApp`."""
        return str(self.env_file)

    def check(self, model: str = "") -> None:  # noqa: ARG002 - what git does to it is said once it is there
        """See `WebApp`."""
        self._edited({URL_KEY: "x", VERSION_KEY: "x"})
        if not _existing_parent(self.env_file).is_dir():
            raise EnvFileError(f"{self.env_file} must be in a folder, got a file in its place. Correct --env-file.")
        if not _existing_parent(self.static_dir / MODELS_FOLDER).is_dir():
            raise HostError(f"{self.static_dir} must be a folder, got a file in its place. Correct --static-dir.")
        target = self.env_file if self.env_file.exists() else _existing_parent(self.env_file)
        if not is_writable(target) or not is_writable(_existing_parent(self.env_file)):
            raise EnvFileError(
                f"{self.env_file} must be writable. Give it and its folder write permission, "
                "or choose another --env-file."
            )

    def point(self, released: Released) -> AppResult:
        """See `WebApp`. Shows each line that changes, and warns of what would override them."""
        for path, file in released.files.items():
            copy_file(file, self.static_dir / path, error=HostError)
        changed = self._write(released.values)
        for warning in find_shadows_beside(self.env_file, released.values, {}):
            self.progress(f"warning: {warning}")
        if changed:
            self.progress(NOT_LOOKED_AT)
        for warning in self._ruled(released):
            self.progress(f"warning: {warning}")
        outcome: Outcome = "written" if changed else "unchanged"
        line = f"env file: {self.env_file} ({outcome}): {URL_KEY}={released.model_url}"
        return AppResult(outcome=outcome, model_url=released.model_url, lines=(line,))

    def _ruled(self, released: Released) -> Iterator[str]:
        """What the repository's own rules do to what was written, when it is committed."""
        files = [self.env_file, *(self.static_dir / path for path in released.files)]
        paths = [file.parent.resolve() / file.name for file in files]
        root = _repository(paths[0])
        names = sorted(path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root))
        texts = {rules: _text(root / rules) for name in names for rules in rule_files(name)}
        return tree_warnings(names, texts, is_known=lambda name: _is_tracked(root / name))

    def _edited(self, values: Mapping[str, str]) -> tuple[str, str]:
        """The env file's text before and after our keys are set."""
        if _exists(self.env_file) and not self.env_file.is_file():
            raise EnvFileError(f"{self.env_file} must be a file, it is a directory or a device. Correct --env-file.")
        if not _exists(self.env_file) and self.create_env_file:
            before = ""
        else:
            try:
                content = read_bytes(self.env_file, limit_bytes=envfile.MAX_BYTES)
                before = envfile.decode(content, str(self.env_file))
            except FileNotFoundError as failure:
                raise EnvFileError(
                    f"{self.env_file} must exist. Create it, an empty file will do, or give --create-env-file."
                ) from failure
            except OSError as failure:
                raise EnvFileError(
                    f"{self.env_file} must be a readable file, got: {failure.strerror}. Correct --env-file."
                ) from failure
        return before, envfile.set_values(before, values)

    def _write(self, values: Mapping[str, str]) -> bool:
        """Sets our keys, showing each line that changes; unchanged content writes nothing."""
        before, after = self._edited(values)
        if before == after and self.env_file.exists():
            return False
        old, new = before.splitlines(), after.splitlines()
        for line in (line for line in old if line not in new):
            self.progress(f"  - {line}")
        for line in (line for line in new if line not in old):
            self.progress(f"  + {line}")
        write_bytes(self.env_file, envfile.encode(after), error=EnvFileError)
        return True


def _repository(path: Path) -> Path:
    """The root of the repository that a file is in; where git has none yet, the topmost folder with rules."""
    ruled = [each for each in path.parents if any(is_file(each / name) for name in (ATTRIBUTES, IGNORED))]
    return next((each for each in path.parents if (each / ".git").exists()), (ruled or [path.parent])[-1])


def _text(path: Path) -> str:
    """A file's text; nothing where there is none to read."""
    try:
        return read_bytes(path, limit_bytes=MAX_RULES_BYTES).decode("utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _is_tracked(path: Path) -> bool:
    """Whether git knows a file already: rules about what to leave out are not for it."""
    if (git := shutil.which("git")) is None:
        return False
    command = [git, "ls-files", "--error-unmatch", "--", path.name]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _exists(path: Path) -> bool:
    """Whether something is there.

    Raises:
        EnvFileError: No file system can hold such a path.
    """
    try:
        return path.exists()
    except OSError as failure:
        raise EnvFileError(f"{path.name[:40]} must be a path: {failure.strerror}. Correct --env-file.") from failure


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
