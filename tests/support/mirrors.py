"""What the tests of mirrors share: a whole release of small files, and the web app's origin."""

import json
from pathlib import Path

from model_release.contract.manifest import CHECKSUMS_NAME
from small_release import CONTENTS, document, figures, sha256

APP = "https://app.example"


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
