"""The environment in which the peers run: made once, kept outside the repository."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from measure import BenchmarkError

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def default_folder() -> Path:
    """Where the environment goes unless the command says otherwise: the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "transformer-model-release" / "benchmark-peers"


def peers_python(folder: Path, progress: Callable[[str], None]) -> Path:
    """The peers' Python, installed by pip on first use and again when pins or this Python change.

    The environment sees this one's packages behind its own (a `.pth` file), so that torch, a gigabyte,
    is there once and both sides run the same build of it.

    Args:
        folder: The environment; made if missing.
        progress: Told what takes long.

    Returns:
        The Python interpreter.

    Raises:
        BenchmarkError: pip cannot install the pins.
    """
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    packages = sysconfig.get_paths()["purelib"]
    wanted = f"{sys.version}\n{packages}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    if python.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    progress(f"installing the peers into {folder}")
    _run([sys.executable, "-m", "venv", "--clear", folder])
    own = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip())
    (own / "behind_own_packages.pth").write_text(f"{packages}\n", encoding="utf-8")
    _run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str | Path]) -> str:
    finished = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        complaints = finished.stderr.strip().splitlines()
        raise BenchmarkError(
            f"the peers must be installable, got: {complaints[-1][:400] if complaints else 'nothing on stderr'}. "
            "Check the network, or choose a folder with --peers."
        )
    return finished.stdout
