"""A folder of model files -> config, blueprint and lazily read tensors.

Nothing here reaches for the network (see `hub.py`) and nothing here runs code from a file: JSON is
parsed, safetensors are mapped into memory, a pickle goes through the guarded reader in `pickled.py`.
"""

import hashlib
import itertools
import json
import math
import re
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from model_release.base.background import in_background
from model_release.base.errors import WeightsError
from model_release.base.files import is_file, open_file, read_bytes, sha256_of
from model_release.base.text import first_lines, quoted
from model_release.contract.blueprint import Blueprint, Parameter
from model_release.contract.families import family_of, load_families, require_supported
from model_release.contract.manifest import FileEntry
from model_release.model.weights.pickle_file import PickledFile

FloatArray = npt.NDArray[np.float32]

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
READABLE = (SAFETENSORS, SAFETENSORS_INDEX, PICKLE, PICKLE_INDEX)
"""What weights may be called, in transformers' order of preference."""

ADAPTER = "adapter_config.json"
MERGE_FIRST = (
    'Merge them into their model first: python -c "from peft import AutoPeftModelForCausalLM as M; '
    "M.from_pretrained('ADAPTERS').merge_and_unload().save_pretrained('MERGED')\""
)
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

_SHARD_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_ADAPTER_PART = re.compile(r"\.(lora_\w+|base_layer|modules_to_save|ia3_l|vera_lambda_\w+)(\.|$)")
_CONFIG_LIMIT_BYTES = 1 << 20
_HEADER_LIMIT_BYTES = 64 << 20
_INDEX_LIMIT_BYTES = 16 << 20
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


class SafetensorsFile:
    """A safetensors file, mapped into memory tensor by tensor."""

    def __init__(self, path: Path) -> None:
        """Checks the file with the format's own library and reads its header.

        Raises:
            WeightsError: The file is truncated, corrupt or unreadable.
        """
        self._path = path
        try:
            length, header = _read_header(path)
            with safe_open(path, framework="np"):  # Checks bounds, overlaps, and sizes against shapes.
                pass
        except (SafetensorError, OSError, ValueError, struct.error, RecursionError) as failure:
            raise WeightsError(
                f"{path} must be a whole safetensors file, got: {first_lines(failure)}. Fetch the file again."
            ) from failure
        header.pop("__metadata__", None)
        self.tensors = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        self._offsets = {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}

    def read(self, name: str) -> FloatArray:
        """One tensor as float32; a float32 tensor is a read-only view of the file."""
        dtype, shape = self.tensors[name]
        try:
            stored = np.memmap(self._path, _DTYPES[dtype], mode="r", offset=self._offsets[name], shape=shape)
        except (OSError, ValueError) as failure:
            raise WeightsError(
                f"{self._path} must stay as it is while it is read, got: {failure}. Run again."
            ) from failure
        if dtype == "BF16":  # The upper half of a float32.
            return (stored.astype(np.uint32) << 16).view(np.float32).view(np.ndarray)
        with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, as in PyTorch.
            return np.require(stored.view(np.ndarray), np.float32, ["C", "ALIGNED"])


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """The length of a file's header, and the header, before anything maps the file.

    Raises:
        ValueError: It is none.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 0 < length <= _HEADER_LIMIT_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"a {type(header).__name__} for a header")  # noqa: TRY004 - of the file, not of an argument
    return length, header


class StackedExperts:
    """Tensors that a model keeps as one and a checkpoint expert by expert; one is read at a time.

    Args:
        parts: Name -> of each expert, the tensors that are joined along their outputs, [out, in] each.

    Raises:
        WeightsError: Experts differ in shape or dtype.
    """

    def __init__(self, parts: Mapping[str, Sequence[Sequence["Stored"]]]) -> None:
        self._parts = parts
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, experts in parts.items():
            kinds = {tuple(file.tensors[stored_name] for file, stored_name in expert) for expert in experts}
            if len(kinds) > 1 or len({dtype for dtype, _ in next(iter(kinds))}) > 1:
                raise WeightsError(
                    f"the experts of {name} must be alike, got {len(kinds)} kinds. Fetch the weights again."
                )
            (dtype, (_, *rest)), *_ = kind = kinds.pop()
            self.tensors[name] = (dtype, (len(experts), sum(shape[0] for _, shape in kind), *rest))

    def read(self, name: str) -> FloatArray:
        """The stack, [experts, out, in], float32."""
        _, dims = self.tensors[name]
        stack = np.empty(dims, np.float32)
        for expert, parts in zip(stack, self._parts[name], strict=True):
            start = 0
            for file, stored_name in parts:
                rows = file.read(stored_name)
                expert[start : start + len(rows)] = rows
                start += len(rows)
        return stack


TensorFile = SafetensorsFile | PickledFile | StackedExperts
Stored = tuple[TensorFile, str]
"""A tensor's place: the file, and its name there."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model's weights, checked in names and shapes and ready to be read.

    Attributes:
        source: The hub's repository id, `demo`, or `local`; never a path, so exports are byte-stable.
        revision: The hub's commit, or empty for a folder.
        config: The parsed config.json.
        blueprint: What the model is; `tied` is resolved from the config and the weights.
        folder: Where the files are.
        tokenizer_files: The names of `TOKENIZER_FILES` that are present.
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
    tied, stored = _resolve_head(asked, _canonical(tensor_files, asked))
    blueprint = asked if tied == asked.tied else draw_blueprint(config, tied=tied, context=context)
    _check(blueprint, stored)

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
        tokenizer_files=tuple(name for name in TOKENIZER_FILES if present(name)),
        _stored=stored,
        _hashed=in_background(hashed),
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # A name too long, or a link that leads nowhere.
        return False


def read_json(path: Path, limit_bytes: int) -> dict[str, Any]:
    """Parses a JSON object from a file that nobody vouches for.

    Raises:
        WeightsError: Unreadable, larger than `limit_bytes`, not UTF-8, not JSON, or not an object.
    """
    try:
        parsed = json.loads(read_bytes(path, limit_bytes=limit_bytes).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as failure:
        reason = "nesting too deep" if isinstance(failure, RecursionError) else first_lines(failure)
        raise WeightsError(f"{path} must be a JSON object, got: {reason}. Fetch the file again.") from failure
    if not isinstance(parsed, dict):
        raise WeightsError(f"{path} must be a JSON object, got a {type(parsed).__name__}. Fetch the file again.")
    return parsed


def shard_names(index: Path) -> list[str]:
    """The shards an index file names, sorted; each is a plain file name, never a path.

    Raises:
        WeightsError: The index is broken or names something else than files of its kind beside it.
    """
    suffix = ".bin" if index.name == PICKLE_INDEX else ".safetensors"
    weight_map = read_json(index, _INDEX_LIMIT_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} must map tensors to shards in weight_map, got none. Fetch the file again.")
    for name in weight_map.values():
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name) or not name.endswith(suffix):
            raise WeightsError(
                f"{index} must name shards as plain {suffix} file names, got {repr(name)[:80]}. "
                "Do not use this model: a path here would read files outside its folder."
            )
    return sorted(set(weight_map.values()))


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


def _canonical(tensor_files: Iterable[TensorFile], blueprint: Blueprint) -> dict[str, Stored]:
    """Names as transformers' language model has them -> where they are stored; buffers are left out.

    Raises:
        WeightsError: A parameter is there twice, or adapters are not merged.
    """
    names = _Names(blueprint, [name for file in tensor_files for name in file.tensors])
    stacks, stored = _Stacks(blueprint), dict[str, Stored]()
    for file in tensor_files:
        for name in sorted(file.tensors):
            if _ADAPTER_PART.search(name):
                raise WeightsError(f"The weights must be one model, got {name[:120]} of an adapter. {MERGE_FIRST}")
            full = names.full(name)
            if names.is_buffer(full):
                continue
            if full in stored:
                raise WeightsError(f"The weights must hold {full} once, got it twice. Remove one copy.")
            if not stacks.take(full, (file, name)):
                stored[full] = (file, name)
    return stored | stacks.stored()


class _Names:
    """How a file's names become those of transformers' language model.

    Files written from the bare body (openai-community/gpt2 itself) lack the first part of the name; training
    tools put parts of their own into it, and programs keep a model as a part of something else (`model.`, `net.`).

    Args:
        blueprint: The model.
        stored: Every name in its files.
    """

    def __init__(self, blueprint: Blueprint, stored: Sequence[str]) -> None:
        self._known, self._head = blueprint.parameters, blueprint.head
        self._body = blueprint.tokens.name.partition(".")[0]
        self._renamed = family_of(blueprint.family).get("renamed", {})
        self._buffers = [re.compile(pattern) for pattern in load_families()["ignored_buffers"]]
        parts = "|".join(re.escape(prefix) for prefix in load_families()["prefixes"])
        self._tools = re.compile(rf"(?:^|(?<=\.))(?:{parts})+")
        self._stacks = _Stacks(blueprint)
        self._before = ""
        self._before = self._find_before(stored)

    def full(self, name: str) -> str:
        """The whole name, for which there need be no parameter."""
        plain = self._tools.sub("", name).removeprefix(self._before)
        for pattern, replacement in self._renamed.items():
            plain = re.sub(pattern, replacement, plain)
        inside = plain if plain == self._head or plain.startswith(f"{self._body}.") else f"{self._body}.{plain}"
        return plain if plain in self._known else inside  # A head's bias stands outside the body.

    def is_buffer(self, full: str) -> bool:
        """Whether a tensor is none of the parameters, and is computed again when the model is built."""
        return full not in self._known and any(buffer.search(full) for buffer in self._buffers)

    def _fits(self, name: str) -> bool:
        full = self.full(name)
        return full in self._known or self._stacks.knows(full)

    def _find_before(self, stored: Sequence[str]) -> str:
        """What stands before the names, if most are parameters without it; the shortest that makes the most so."""
        if all(self._fits(name) or self.is_buffer(self.full(name)) for name in stored):
            return ""
        plain = [self._tools.sub("", name) for name in stored]
        ends = {name: [at.end() for at in re.finditer(r"\.", name)] for name in plain}
        found = {before: 0 for name in plain for before in ("", *(name[:end] for end in ends[name]))}
        for name in plain:
            for end in (0, *ends[name]):
                found[name[:end]] += self._fits(name[end:])
        best = max(found, key=lambda before: (found[before], -len(before)), default="")
        return best if found.get(best, 0) > len(plain) / 2 else ""


class _Stacks:
    """Tensors of single experts, gathered for the parameters they are part of."""

    def __init__(self, blueprint: Blueprint) -> None:
        stacked: Mapping[str, Sequence[str]] = family_of(blueprint.family).get("stacked", {})
        body = blueprint.tokens.name.partition(".")[0]
        self._patterns = [
            (
                re.compile(rf"({re.escape(body)}\..*\.){re.escape(part).replace(re.escape('{E}'), '([0-9]{1,4})')}"),
                target,
                place,
            )
            for target, parts in stacked.items()
            for place, part in enumerate(parts)
        ]
        self._counts = {target: len(parts) for target, parts in stacked.items()}
        self._found: dict[tuple[str, str], dict[tuple[int, int], Stored]] = {}

    def knows(self, name: str) -> bool:
        """Whether a tensor is a part of an expert."""
        return any(pattern.fullmatch(name) for pattern, _, _ in self._patterns)

    def take(self, name: str, stored: Stored) -> bool:
        """Whether a tensor is a part of an expert; if so, it is kept."""
        for pattern, target, place in self._patterns:
            if match := pattern.fullmatch(name):
                self._found.setdefault((match[1], target), {})[int(match[2]), place] = stored
                return True
        return False

    def stored(self) -> dict[str, Stored]:
        """The parameters that all found parts make up.

        Raises:
            WeightsError: A part of an expert is missing.
        """
        stacks = {}
        for (before, target), found in self._found.items():
            experts, parts = max(expert for expert, _ in found) + 1, self._counts[target]
            if len(found) != experts * parts:
                raise WeightsError(
                    f"The weights must hold {experts * parts} tensors for {before}{target}, got {len(found)}. "
                    "Fetch the weights again."
                )
            stacks[before + target] = [[found[expert, part] for part in range(parts)] for expert in range(experts)]
        file = StackedExperts(stacks)
        return {name: (file, name) for name in stacks}


def _resolve_head(asked: Blueprint, stored: Mapping[str, Stored]) -> tuple[bool, dict[str, Stored]]:
    """Whether the head is the token table, and the weights without a second copy of it.

    This is transformers 5's rule: the config asks, and two tables that differ overrule it.
    """
    tables, tokens = dict(stored), asked.tokens.name
    if not asked.tied or asked.head not in tables:
        return asked.tied, tables
    if tokens in tables:
        for name in (tokens, asked.head):
            _check_tensor(replace(asked.tokens, name=name), tables[name])
        one, other = (tables[name] for name in (tokens, asked.head))
        if hashlib.sha256(one[0].read(one[1]).data).digest() != hashlib.sha256(other[0].read(other[1]).data).digest():
            return False, tables
    else:
        tables[tokens] = tables[asked.head]
    del tables[asked.head]
    return True, tables


def _check(blueprint: Blueprint, stored: Mapping[str, Stored]) -> None:
    """Every parameter is there, of the right shape and a known dtype, and nothing else is."""
    expected = blueprint.parameters
    missing = [name for name in expected if name not in stored]
    if missing:
        hint = "Fetch the weights that belong to this config."
        if missing == [blueprint.head]:
            hint = "Set tie_word_embeddings to true if the head is the embedding table."
        elif before := _common_beginning([name for _, name in stored.values()]):
            hint = f"All names there begin with {quoted(before)}. {hint}"
        raise WeightsError(
            f"The weights must hold every parameter of {CONFIG}, got none named {missing[0]} "
            f"({len(missing)} missing). {hint}"
        )
    for name, (file, stored_name) in stored.items():
        if name not in expected:
            raise WeightsError(
                f"The weights must hold parameters of {blueprint.family} only, got {stored_name[:120]}. "
                "Choose a plain language model: with further parameters its numbers would differ."
            )
        _check_tensor(expected[name], (file, stored_name))


def _common_beginning(names: Iterable[str]) -> str:
    """The parts that all names begin with.

    >>> _common_beginning(["net.h.0.bias", "net.h.1.bias"]), _common_beginning([])
    ('net.h', '')
    """
    parts = zip(*(name.split(".") for name in names), strict=False)
    return ".".join(part for part, *_ in itertools.takewhile(lambda same: len(set(same)) == 1, parts))


def _check_tensor(parameter: Parameter, stored: Stored) -> None:
    file, stored_name = stored
    (dtype, got), name, dims = file.tensors[stored_name], parameter.name, parameter.dims
    if got != dims:
        advice = "Fetch the config that belongs to these weights."
        if len(dims) > 1 and got == (*dims[:-2], dims[-1], dims[-2]):
            layouts = ("nn.Linear", "Conv1D") if parameter.layout.endswith("columns") else ("Conv1D", "nn.Linear")
            advice = f"It lies as in {layouts[0]}, and the model has {layouts[1]}: transpose all such matrices (.T)."
        raise WeightsError(f"{name} must have the shape {list(dims)}, got {list(got)}. {advice}")
    if dtype not in _DTYPES:
        raise WeightsError(
            f"{name} must be stored as {', '.join(_DTYPES)}, got {dtype}. Choose weights that are not quantized."
        )
