"""Tensors as files name and split them -> the parameters of a model.

Programs that write weights put parts before and into names, leave a tied head out or in, and keep experts one by one.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from model_release.base.errors import WeightsError
from model_release.base.text import quoted
from model_release.contract.blueprint import Blueprint, Parameter
from model_release.contract.families import family_of, load_families
from model_release.model.weights.file_names import CONFIG, MERGE_FIRST
from model_release.model.weights.pickle_file import PickledFile
from model_release.model.weights.safetensors_file import DTYPES, FloatArray, SafetensorsFile

_ADAPTER_PART = re.compile(r"\.(lora_\w+|base_layer|modules_to_save|ia3_l|vera_lambda_\w+)(\.|$)")
_HALF_ROUNDING = 2.0**-8  # Of bfloat16, in which checkpoints keep constants.


class StackedExperts:
    """Tensors that a model keeps as one and a checkpoint expert by expert; one is read at a time.

    Args:
        parts: Name -> of each expert, the tensors that are joined along their outputs, [out, in] each.

    Raises:
        WeightsError: Experts differ in shape or dtype, or are no matrices.
    """

    def __init__(self, parts: Mapping[str, Sequence[Sequence["Stored"]]]) -> None:
        self._parts = parts
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, experts in parts.items():
            kinds = {tuple(file.tensors[stored_name] for file, stored_name in expert) for expert in experts}
            kind = kinds.pop()
            if kinds or len({(dtype, *shape[1:]) for dtype, shape in kind}) > 1 or any(len(s) != 2 for _, s in kind):
                raise WeightsError(
                    f"the experts of {name} must be matrices that are alike, got others. Fetch the weights again."
                )
            (dtype, (_, *rest)), *_ = kind
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


def find_parameters(tensor_files: Iterable[TensorFile], asked: Blueprint) -> tuple[bool, dict[str, Stored]]:
    """Where each parameter is stored, and whether the head is the token table.

    Args:
        tensor_files: All files of the weights.
        asked: The model as its config asks for it.

    Returns:
        Whether the head is tied, and of each tensor by its name in transformers' language model, its place; see
        `check_parameters` for whether these are all.

    Raises:
        WeightsError: A parameter is there twice, adapters are not merged, or experts or tables do not fit together.
    """
    return _resolve_head(asked, _canonical(tensor_files, asked))


def check_parameters(blueprint: Blueprint, stored: Mapping[str, Stored]) -> None:
    """Refuses weights unless every parameter is there, of the right shape and a known dtype, and nothing else is.

    Raises:
        WeightsError: With what is missing, too much, or of another shape or dtype.
    """
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


def _canonical(tensor_files: Iterable[TensorFile], blueprint: Blueprint) -> dict[str, Stored]:
    """Names as transformers' language model has them -> where they are stored; buffers are left out."""
    names = _Names(blueprint, [name for file in tensor_files for name in file.tensors])
    stacks, stored = _Stacks(blueprint), dict[str, Stored]()
    for file in tensor_files:
        for name in sorted(file.tensors):
            if _ADAPTER_PART.search(name):
                raise WeightsError(f"The weights must be one model, got {name[:120]} of an adapter. {MERGE_FIRST}")
            full = names.full(name)
            if names.is_buffer(full):
                if (value := names.fixed(full)) is not None:
                    _check_fixed(value, (file, name))
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
        self._fixed = {re.compile(pattern): value for pattern, value in load_families()["fixed_buffers"].items()}
        self._buffers = [*map(re.compile, load_families()["ignored_buffers"]), *self._fixed]
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
        """Whether a tensor is none of the parameters, and is made again when the model is built."""
        return full not in self._known and any(buffer.search(full) for buffer in self._buffers)

    def fixed(self, full: str) -> float | None:
        """The value of a buffer that is a constant of the model's code; None for every other."""
        return next((value for buffer, value in self._fixed.items() if buffer.search(full)), None)

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
    if dtype not in DTYPES:
        raise WeightsError(
            f"{name} must be stored as {', '.join(DTYPES)}, got {dtype}. Choose weights that are not quantized."
        )


def _check_fixed(value: float, stored: Stored) -> None:
    """Refuses another constant than the one that the exported graph has."""
    file, name = stored
    dtype, dims = file.tensors[name]
    is_one = dtype in DTYPES and math.prod(dims) == 1
    if not is_one or not np.allclose(file.read(name), value, rtol=_HALF_ROUNDING, atol=0):
        raise WeightsError(
            f"{name[:120]} must be {value:g}, a constant of the model, and is something else. "
            "Choose weights as transformers writes them."
        )
