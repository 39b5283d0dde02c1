"""What a repository's .gitattributes and .gitignore do to a path, asked of git itself: it alone knows all patterns."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model_release.base.errors import MissingToolError

_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """How git treats a path.

    Attributes:
        ignored: Whether `git add` passes over it.
        by_lfs: Whether git stores a pointer in place of its content.
    """

    ignored: bool
    by_lfs: bool


def rule_files(path: str) -> tuple[str, ...]:
    """The files that may say something of a path: in its folder, and in every one above.

    >>> rule_files("web/.env")
    ('web/.gitattributes', 'web/.gitignore', '.gitattributes', '.gitignore')
    """
    names = (".gitattributes", ".gitignore")
    return tuple(str(folder / name) for folder in PurePosixPath(path).parents for name in names)


def treatments(rules: Mapping[str, bytes], paths: Iterable[str]) -> dict[str, Treatment]:
    """How git treats paths in a repository with these rules; a person's own settings have no say.

    Args:
        rules: Path of a .gitattributes or .gitignore -> its content.
        paths: In the repository; plain ones.

    Raises:
        MissingToolError: There is no git.
    """
    git = shutil.which("git")
    if git is None:
        raise MissingToolError("git must be installed to judge .gitattributes and .gitignore. Install it.")
    with tempfile.TemporaryDirectory(prefix="model-release-") as folder:
        for path, content in rules.items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": folder}

        def ask(*arguments: str) -> "subprocess.CompletedProcess[str]":
            command = [git, *arguments]
            return subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )

        ask("init", "--quiet")
        return {
            path: Treatment(
                ignored=ask("check-ignore", "--no-index", "--quiet", "--", path).returncode == 0,
                by_lfs=ask("check-attr", "filter", "--", path).stdout.rstrip().endswith("filter: lfs"),
            )
            for path in paths
        }
