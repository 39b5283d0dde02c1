"""What the tests of mirrors share: a release of small files, a hub with a repository, and the web app's origin."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_release.contract.manifest import CHECKSUMS_NAME
from small_release import CONTENTS, document, figures, sha256
from standins.hub import StandInHub

APP = "https://app.example"
MIRROR = "octocat/models"


def release_folder(parent: Path) -> Path:
    """Writes a whole release into `parent/dist`."""
    folder = parent / "dist"
    folder.mkdir(exist_ok=True)
    parts = {"manifest.json": document(), "measured.json": figures()}
    texts = {name: json.dumps(part, indent=2, sort_keys=True) + "\n" for name, part in parts.items()}
    files = CONTENTS | {name: text.encode() for name, text in texts.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = "".join(f"{sha256(content)}  {name}\n" for name, content in sorted(files.items()))
    (folder / CHECKSUMS_NAME).write_text(sums)
    return folder


def make_repository(root: Path) -> None:
    """An existing repository with a README; a mirror makes none."""
    folder = root / "hub" / MIRROR
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("Models.\n")


@contextlib.contextmanager
def mirror_hub(root: Path) -> Iterator[StandInHub]:
    """A hub with that repository, which is ours to write to."""
    make_repository(root)
    with StandInHub(root / "hub") as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        patch.setenv("HF_TOKEN", "hf_secret")
        yield server
