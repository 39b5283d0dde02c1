"""What a release asks of the web app, wherever that is: to be ready before the work, and to use the model after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import MODELS_FOLDER
from model_release.contract.manifest import MANIFEST_NAME, Manifest, version_query
from model_release.contract.transformers_js import delivered_names

Outcome = Literal["unchanged", "written", "committed", "pull request", "branch pushed"]


@dataclass(frozen=True, kw_only=True)
class Released:
    """A release that is public by now, with what an app needs to know of it.

    Attributes:
        document: Its manifest.
        dist: The folder with its files.
        asset_url: Where the app's model is found in the release, without `?v=`.
        mirror_url: What the app is to use instead, whatever the delivery; empty without a mirror.
    """

    document: Manifest
    dist: Path
    asset_url: str
    mirror_url: str = ""

    @property
    def delivered_by_git(self) -> bool:
        """Whether the app's tree gets the model itself."""
        return not self.mirror_url and self.document.delivery.mode == "git"

    @property
    def files(self) -> dict[str, Path]:
        """What goes below the folder the app serves at its base: path there -> file; nothing unless by git."""
        if not self.delivered_by_git:
            return {}
        names = (*delivered_names(self.document, self.document.delivery.file), MANIFEST_NAME)
        return {f"{self._folder}/{name}": self.dist / name for name in names}

    @property
    def values(self) -> dict[str, str]:
        """What the env file shall say, by key."""
        return {URL_KEY: self.model_url, VERSION_KEY: self.document.version}

    @property
    def model_url(self) -> str:
        """The model's URL with `?v=`; by git relative to the app's base, which its bundler knows and we do not."""
        if self.mirror_url:
            return self.mirror_url
        model = self.document.app_model
        place = f"{self._folder}/{model.name}" if self.delivered_by_git else self.asset_url
        return f"{place}?v={version_query(self.document.version, model.sha256)}"

    @property
    def _folder(self) -> str:
        return f"{MODELS_FOLDER}/{self.document.name}"


def model_in_tree(document: Manifest) -> str:
    """What `WebApp.check` wants to know of a release: the path of its model, if it goes into the app's tree."""
    by_git = document.delivery.mode == "git"
    return f"{MODELS_FOLDER}/{document.name}/{document.delivery.file}" if by_git else ""


@dataclass(frozen=True, kw_only=True)
class AppResult:
    """What became of the web app.

    Attributes:
        outcome: `written` is a working tree's; the others but `unchanged` are a repository's.
        model_url: What its env file says, or will say once a pull request is merged.
        lines: All of that, for people.
        commit: The commit that says so; empty in a working tree.
    """

    outcome: Outcome
    model_url: str
    lines: tuple[str, ...]
    commit: str = ""


class WebApp(Protocol):
    """The web app that gets the model: a working tree (`TreeApp`) or a repository on GitHub (`RepositoryApp`)."""

    def describe(self) -> str:
        """Its env file, for a message."""

    def check(self, model: str = "") -> None:
        """Refuses before any work what can be refused then; writes nothing.

        Args:
            model: Path below the folder that the app serves, of a model that goes there; empty if none does.

        Raises:
            EnvFileError: The env file is missing, cannot be edited safely, or cannot be written.
            HostError: There is no such place for us, or the model would not come out of it as it goes in.
        """

    def point(self, released: Released) -> AppResult:
        """Makes the app use a release: its env file's values, and by git the model's files.

        Raises:
            EnvFileError: See `check`.
            HostError: The files cannot be brought, or the release does not answer.
        """
