"""Which weights are asked for, and where they come from."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.base.errors import UsageError
from model_release.base.progress import Progress, silent
from model_release.contract.blueprint import MOST_CONTEXT

if TYPE_CHECKING:
    from model_release.model.weights.folder import Weights

DEMO_FOLDER = Path(__file__).resolve().parents[3] / "demo_model"


DEFAULT_MODEL = "gpt2"


@dataclass(frozen=True, kw_only=True)
class SourceRequest:
    """Which weights: a registry key or Hub id, a folder, or the embedded model; at most one.

    Attributes:
        model: Key of `contract/models.json`, or a Hub id.
        folder: A folder with config.json and weights.
        demo: The embedded model.
        revision: A commit, branch or tag of the Hub's repository.
        context: Tokens the model shall promise, if not its positions or 2048.
    """

    model: str | None = None
    folder: Path | None = None
    demo: bool = False
    revision: str | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        if sum([self.model is not None, self.folder is not None, self.demo]) > 1:
            raise UsageError("--model, --model-path and --demo exclude each other. Give one of them.")
        if self.model == "":
            raise UsageError("--model must be a name of contract/models.json or a Hub id, got nothing. Use e.g. gpt2.")
        if self.context is not None and not 1 <= self.context <= MOST_CONTEXT:
            raise UsageError(f"--context must be from 1 to {MOST_CONTEXT} tokens, got {self.context}. Correct it.")
        if self.revision is not None and (self.folder is not None or self.demo):
            raise UsageError("--revision belongs to a model of the Hub. Leave it out with --model-path and --demo.")

    @property
    def name(self) -> str:
        """A short name for folders and URLs: the model's own, without its organisation."""
        text = (
            "demo"
            if self.demo
            else (_snapshot(self.folder) or (Path(os.path.realpath(self.folder)).name, ""))[0]
            if self.folder
            else (self.model or DEFAULT_MODEL)
        )
        last = text.rsplit("/", 1)[-1]
        return (
            "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in last).strip("._-")[:60]
            or "model"
        )

    def describe(self) -> str:
        """The source in words."""
        if self.demo:
            return "the embedded model"
        return (
            f"folder {self.folder}"
            if self.folder
            else f"{self.model or DEFAULT_MODEL}{f' at {self.revision}' if self.revision else ''}"
        )


def _snapshot(folder: Path) -> tuple[str, str] | None:
    """Repository id and commit of a folder in a cache of the Hub, by the cache's layout; None for any other folder.

    `models--ORG--NAME/snapshots/COMMIT`: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
    """
    path = Path(os.path.realpath(folder))
    names = path.parts[-3:]
    is_snapshot = len(names) == 3 and names[1] == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", names[2])
    repository = re.fullmatch(r"models--((?:(?!--).)+)(?:--((?:(?!--).)+))?", names[0])
    return ("/".join(filter(None, repository.groups())), names[2]) if is_snapshot and repository else None


def load_weights(source: SourceRequest, progress: Progress = silent) -> "Weights":
    """Verified weights of a source.

    Raises:
        WeightsError: They cannot be had, or are broken.
        ManifestError: A file's sha256 is not the pinned one.
    """
    from model_release.model.weights.folder import load_folder

    if source.demo:
        return load_folder(DEMO_FOLDER, source="demo", context=source.context)
    if source.folder is not None:
        repository, commit = _snapshot(source.folder) or ("local", "")
        return load_folder(source.folder, source=repository, revision=commit, context=source.context)
    from model_release.model.weights.hub import fetch_model

    fetched = fetch_model(source.model or DEFAULT_MODEL, revision=source.revision, progress=progress)
    return load_folder(
        fetched.folder,
        source=fetched.source,
        revision=fetched.revision,
        files=fetched.files,
        context=source.context,
    )
