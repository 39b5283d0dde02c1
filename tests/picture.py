"""Draws `.github/report.png`, the picture of the READMEs: the report of the embedded model, in headless Chromium.

Run it after a change of the pages: `python tests/picture.py`. It takes a minute.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from model_release.browser.chromium import chromium  # noqa: E402 - after the path

PICTURE = ROOT / ".github" / "report.png"
TAG = "model-v1.0.0"
ACTIVATIONS = "all,head_output,logit_lens"


def main() -> None:
    """Makes a release in a temporary folder, and takes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [
            sys.executable,
            ROOT / "scripts" / "release.py",
            "--demo",
            "--tag",
            TAG,
            "--no-env",
        ]
        command += ["--all-layers", "--activations", ACTIVATIONS, "--host", f"local:{folder}"]
        subprocess.run(command, check=True, cwd=folder)
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1128, "height": 1410}, color_scheme="light")
            page.goto((Path(folder) / TAG / "report.html").as_uri())
            page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
