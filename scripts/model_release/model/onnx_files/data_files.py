"""An ONNX file and its data files, for models that one file cannot hold.

Protobuf ends at 2 GiB, and so does a release asset. A larger model keeps its large tensors beside
`model.onnx`, in `model.onnx_data`, `model.onnx_data_1` and so on, each smaller than that.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path

from model_release.base.errors import ReleaseError
from model_release.base.files import atomic_path, is_file
from model_release.contract.manifest import data_file_name


def data_files(model: Path) -> list[Path]:
    """The data files beside a model file, in order."""
    return list(takewhile(is_file, (model.with_name(data_file_name(model.name, number)) for number in count())))


def model_bytes(model: Path) -> int:
    """The size of a model: its file and its data files."""
    return sum(path.stat().st_size for path in (model, *data_files(model)))


@contextmanager
def atomic_model(target: Path, *, error: type[ReleaseError]) -> Iterator[Path]:
    """As `files.atomic_path`, for a model file with data files.

    Yields:
        A path of the same name in a temporary folder. Data files written beside it are moved first,
        the model file last; data files of a model that was there before are removed.

    Raises:
        ReleaseError: See `files.atomic_path`.
    """
    with atomic_path(target, error=error, durable=False) as temporary:  # Made again sooner than waited for.
        folder = Path(tempfile.mkdtemp(prefix=temporary.name, dir=temporary.parent))
        try:
            written = folder / target.name
            yield written
            made = data_files(written)
            for path in made:
                path.replace(temporary.with_name(path.name))
            temporary.unlink()  # ext4 writes a file out at once that is renamed over another.
            written.replace(temporary)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for stale in data_files(target)[len(made) :]:
        stale.unlink()
