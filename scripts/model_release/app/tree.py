"""The web app's working tree: a release's model below its static folder, and its URL in the env file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_release.app import envfile
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import MODELS_FOLDER, delivered_names
from model_release.app.overrides import find_shadows_beside
from model_release.base.errors import EnvFileError, HostError
from model_release.base.files import copy_file, write_bytes
from model_release.contract.manifest import MANIFEST_NAME, Manifest


@dataclass(frozen=True, kw_only=True)
class AppRequest:
    """Where the web app learns its model's URL.

    Attributes:
        env_file: The env file to edit; it must exist unless `create_env_file`.
        static_dir: The folder the app serves at its base; models delivered by git go below it.
    """

    env_file: Path
    static_dir: Path
    create_env_file: bool = False


def check_tree(app: AppRequest) -> None:
    """Everything about the env file that can fail, before any work is done.

    Raises:
        EnvFileError: It is missing, unreadable, not writable, or our keys in it are ambiguous.
    """
    _edited(app, {URL_KEY: "x", VERSION_KEY: "x"})
    if not _existing_parent(app.env_file).is_dir():
        raise EnvFileError(f"{app.env_file} must be in a folder, got a file in its place. Correct --env-file.")
    if not _existing_parent(app.static_dir / MODELS_FOLDER).is_dir():
        raise HostError(f"{app.static_dir} must be a folder, got a file in its place. Correct --static-dir.")
    target = app.env_file if app.env_file.exists() else _existing_parent(app.env_file)
    if not _writable(target) or not _writable(_existing_parent(app.env_file)):
        raise EnvFileError(
            f"{app.env_file} must be writable. Give it and its folder write permission, or choose another --env-file."
        )


def deliver_files(app: AppRequest, document: Manifest, dist: Path) -> str:
    """Puts the model and what goes with it into the app's tree.

    Returns:
        The model's path relative to the app's base, which its bundler knows and we do not.

    Raises:
        HostError: The static folder cannot be written.
    """
    folder, file = f"{MODELS_FOLDER}/{document.name}", document.delivery.file
    for name in (*delivered_names(document, file), MANIFEST_NAME):
        copy_file(dist / name, app.static_dir / folder / name, error=HostError)
    return f"{folder}/{file}"


def write_env(app: AppRequest, url: str, version: str, progress: Callable[[str], None]) -> bool:
    """Sets the env file's keys, shows each line that changes, and warns of what would override them.

    Returns:
        Whether the file was written; unchanged content is not.
    """
    values = {URL_KEY: url, VERSION_KEY: version}
    changed = _write_env(app, values, progress)
    for warning in find_shadows_beside(app.env_file, values, {}):
        progress(f"warning: {warning}")
    return changed


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


def _writable(path: Path) -> bool:
    """Whether permission bits allow writing; root, whom they do not stop, respects them here too."""
    return bool(path.stat().st_mode & 0o222)


def _edited(app: AppRequest, values: dict[str, str]) -> tuple[str, str]:
    """The env file's text before and after our keys are set."""
    if _exists(app.env_file) and not app.env_file.is_file():
        raise EnvFileError(f"{app.env_file} must be a file, it is a directory or a device. Correct --env-file.")
    if not _exists(app.env_file) and app.create_env_file:
        before = ""
    else:
        try:
            with app.env_file.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                before = file.read()
        except FileNotFoundError as failure:
            raise EnvFileError(
                f"{app.env_file} must exist. Create it, an empty file will do, or give --create-env-file."
            ) from failure
        except OSError as failure:
            raise EnvFileError(
                f"{app.env_file} must be a readable file, got: {failure.strerror}. Correct --env-file."
            ) from failure
    return before, envfile.set_values(before, values)


def _write_env(app: AppRequest, values: dict[str, str], progress: Callable[[str], None]) -> bool:
    """Sets our keys, showing each line that changes; unchanged content writes nothing."""
    before, after = _edited(app, values)
    if before == after and app.env_file.exists():
        return False
    old, new = before.splitlines(), after.splitlines()
    for line in (line for line in old if line not in new):
        progress(f"  - {line}")
    for line in (line for line in new if line not in old):
        progress(f"  + {line}")
    write_bytes(app.env_file, after.encode("utf-8", errors="surrogateescape"), error=EnvFileError)
    return True
