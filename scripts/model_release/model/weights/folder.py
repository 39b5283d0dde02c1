"""A folder of model files -> config, blueprint and lazily read tensors.

Nothing here reaches for the network (see `hub.py`) and nothing here runs code from a file: JSON is
parsed, safetensors are mapped into memory, a pickle goes through the guarded reader in `pickle_file.py`.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_release.base.background import in_background
from model_release.base.errors import WeightsError
from model_release.base.files import is_file, sha256_of
from model_release.contract.blueprint import Blueprint
from model_release.contract.families import require_supported
from model_release.contract.manifest import FileEntry
from model_release.model.weights.file_names import (
    ADAPTER,
    CONFIG,
    MERGE_FIRST,
    PICKLE,
    PICKLE_INDEX,
    READABLE,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    read_json,
    shard_names,
    tokenizer_names,
)
from model_release.model.weights.parameters import Stored, check_parameters, find_parameters
from model_release.model.weights.pickle_file import PickledFile
from model_release.model.weights.safetensors_file import FloatArray, SafetensorsFile

_CONFIG_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model's weights, checked in names and shapes and ready to be read.

    Attributes:
        source: The hub's repository id, `demo`, or `local`; never a path, so exports are byte-stable.
        revision: The hub's commit, or empty for a folder.
        config: The parsed config.json.
        blueprint: What the model is; `tied` is resolved from the config and the weights.
        folder: Where the files are.
        tokenizer_files: The names that are present, see `tokenizer_names`.
    """

    source: str
    revision: str
    config: Mapping[str, Any]
    blueprint: Blueprint
    folder: Path
    tokenizer_files: tuple[str, ...]
    _stored: Mapping[str, Stored] = field(repr=False)
    _hashed: Callable[[], tuple[FileEntry, ...]] = field(repr=False)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The weights files, by name. They are hashed while other work is done; this waits for it.

        Raises:
            WeightsError: A file cannot be read.
        """
        return self._hashed()

    @property
    def sha256(self) -> str:
        """Of the weights file; of shards, the sha256 over the lines `<sha256>  <name>` by name.

        Raises:
            WeightsError: See `files`.
        """
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()

    def tensor(self, name: str) -> FloatArray:
        """Reads one parameter from disk; nothing is kept.

        Args:
            name: A name of `blueprint.parameters`.

        Returns:
            float32, C-contiguous, of that shape. It may be a read-only view of the file.

        Raises:
            WeightsError: The file changed or vanished since it was checked.
        """
        file, stored_name = self._stored[name]
        return file.read(stored_name)

    def finite_tensor(self, name: str) -> FloatArray:
        """`tensor`, for those who release it.

        Raises:
            WeightsError: It changed, or holds a NaN or an infinite number: every figure after it would be one.
        """
        array = self.tensor(name)
        low, high = float(array.min()), float(array.max())  # A NaN is both. A table of flags would cost memory.
        if not math.isfinite(low) or not math.isfinite(high):
            raise WeightsError(
                f"{name} must hold finite numbers, got some from {low:g} to {high:g}. "
                "Release weights of before the training went wrong, or mend them."
            )
        return array


def load_folder(
    folder: Path,
    *,
    source: str = "local",
    revision: str = "",
    files: Collection[str] | None = None,
    context: int | None = None,
) -> Weights:
    """Reads a model folder: config, blueprint, and where each tensor lies. Tensors are read later.

    Args:
        folder: Holds config.json and model.safetensors or pytorch_model.bin, or the index of either with
            its shards; the first of `READABLE` that is there counts.
        source: See `Weights.source`.
        revision: See `Weights.revision`.
        files: The only names to look at, when other files in the folder are not to be trusted (a
            download cache holds what other programs put there). None trusts the folder.
        context: Tokens the model shall promise; see `survey.draw_blueprint`.

    Raises:
        WeightsError: Something is missing, broken, or of another architecture.
    """
    if not _is_folder(folder):
        raise WeightsError(f"The model's folder must exist, got {folder}. Give a folder with {CONFIG} and weights.")

    def present(name: str) -> bool:
        return (files is None or name in files) and is_file(folder / name)

    if present(ADAPTER) and not any(map(present, READABLE)):
        raise WeightsError(f"{folder} must hold a whole model, got the adapters of PEFT alone. {MERGE_FIRST}")
    if not present(CONFIG):
        raise WeightsError(f"{folder} must hold {CONFIG}, got none. Copy it from where the weights come from.")
    config = read_json(folder / CONFIG, _CONFIG_LIMIT_BYTES)
    require_supported(config)
    paths = [folder / name for name in _weights_names(folder, present)]
    tensor_files = [PickledFile(path) if path.suffix == ".bin" else SafetensorsFile(path) for path in paths]
    from model_release.model.export.survey import (
        draw_blueprint,
    )  # It brings PyTorch, once the files are known to be good.

    asked = draw_blueprint(config, context=context)
    tied, stored = find_parameters(tensor_files, asked)
    blueprint = asked if tied == asked.tied else draw_blueprint(config, tied=tied, context=context)
    check_parameters(blueprint, stored)

    def hashed() -> tuple[FileEntry, ...]:
        return tuple(
            FileEntry(name=path.name, size_bytes=path.stat().st_size, sha256=sha256_of(path, error=WeightsError))
            for path in paths
        )

    return Weights(
        source=source,
        revision=revision,
        config=config,
        blueprint=blueprint,
        folder=folder,
        tokenizer_files=tokenizer_names(present),
        _stored=stored,
        _hashed=in_background(hashed),
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # A name too long, or a link that leads nowhere.
        return False


def _weights_names(folder: Path, present: Callable[[str], bool]) -> list[str]:
    """The weights files to read, in transformers' order of preference."""
    chosen = next(filter(present, READABLE), None)
    if chosen is None:
        raise WeightsError(
            f"{folder} must hold {SAFETENSORS}, {SAFETENSORS_INDEX} with its shards, {PICKLE}, or {PICKLE_INDEX} with "
            "its shards, got none. Copy the weights there."
        )
    if chosen not in (SAFETENSORS_INDEX, PICKLE_INDEX):
        return [chosen]
    names = shard_names(folder / chosen)
    for name in names:
        if not present(name):
            raise WeightsError(f"{folder} must hold every shard of its index, got no {name}. Fetch the shard.")
    return names
