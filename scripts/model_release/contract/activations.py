"""What a released model promises: `contract/activations.json` as typed values.

The JSON is the one source of names, shapes, clauses and tolerances.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from model_release.base.errors import ContractError, UsageError
from model_release.base.files import read_bytes
from model_release.contract.blueprint import Blueprint, LayerKind
from model_release.contract.precision import FULL_PRECISION, Precision, Tolerance
from model_release.contract.selection import Selection
from model_release.contract.storage import Storage
from model_release.contract.tensor_names import parse_tensor_name, tensor_name

CONTRACT_FOLDER = Path(__file__).resolve().parents[3] / "contract"

_LIMIT_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class OutputKind:
    """One row of the contract's table of outputs.

    Attributes:
        kind: Short name, as in `--activations`.
        layered: Whether there is one a layer.
        dims: Symbolic shape, such as `("batch", "seq", "hidden")`.
        default: Whether it is exported when nothing is asked for.
        on_request: Whether it is exported only where it is named: it is large, and no part of `all`.
        transformer_lens: The hook point of TransformerLens 4.3 with the same content, weights loaded as they are;
            empty without one.
        exists: Which models or layers have it: `always`, or `where ...`.
        meaning: One sentence for readers.
    """

    kind: str
    layered: bool
    dims: tuple[str, ...]
    default: bool
    on_request: bool
    transformer_lens: str
    exists: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class CacheKind:
    """One row of the contract's table of `--cache`: an input or output that each layer has.

    Attributes:
        kind: Such as `past_key`; see `tensor_name`.
        dims: Symbolic shape, float32.
        meaning: One sentence for readers.
    """

    kind: str
    dims: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One row of the contract's table of `--interventions`: an input that touches every layer.

    Attributes:
        name: Of the input.
        dims: Symbolic shape, float32; layers first.
        neutral: The value of all its elements that changes nothing.
        meaning: One sentence for readers.
    """

    name: str
    dims: tuple[str, ...]
    neutral: float
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of one model.

    Attributes:
        name: See `tensor_name`.
        dtype: As ONNX calls it.
        dims: Its shape, with what differs from run to run left open.
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of one model.

    Attributes:
        name: See `tensor_name`.
        kind: Of the contract.
        layer: Its layer's number, None where there is one a model.
        dims: Its shape, with only `batch`, `seq` and, with `--cache`, `total` left open.
        of: The kind of its layer, for what a rule needs to know besides.
        of_last_layer: Whether its layer is the model's last.
    """

    name: str
    kind: str
    layer: int | None
    dims: tuple[int | str, ...]
    of: LayerKind | None = field(default=None, compare=False, repr=False)
    of_last_layer: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Clause:
    """A rule with an ID; the same ID stands in the Markdown, the output and the tests."""

    id: str
    stage: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Sum:
    """An output that is the sum of others; names hold `{L}` and `{L+1}` for layers."""

    total: str
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The whole contract; see `load_contract`."""

    version: str
    input_name: str
    input_dims: tuple[str, ...]
    outputs: tuple[OutputKind, ...]
    cache_inputs: tuple[CacheKind, ...]
    cache_outputs: tuple[CacheKind, ...]
    interventions: tuple[Intervention, ...]
    dimensions: Mapping[str, str]
    sums: tuple[Sum, ...]
    clauses: Mapping[str, Clause]
    precisions: Mapping[str, Precision]
    min_opset: int
    max_opset: int

    @property
    def default_activations(self) -> tuple[str, ...]:
        """Kinds exported when nothing is asked for; `logits` always is."""
        return tuple(output.kind for output in self.outputs if output.default and output.kind != "logits")

    @property
    def all_activations(self) -> tuple[str, ...]:
        """Every kind besides `logits`."""
        return tuple(output.kind for output in self.outputs if output.kind != "logits")

    @property
    def common_activations(self) -> tuple[str, ...]:
        """What `all` stands for: every kind but those that must be named."""
        return tuple(output.kind for output in self.outputs if output.kind != "logits" and not output.on_request)

    def kind(self, name: str) -> OutputKind:
        """A row of the table by its name."""
        return next(output for output in self.outputs if output.kind == name)

    def precision(self, name: str) -> Precision:
        """A precision by name.

        Raises:
            UsageError: There is none of this name.
        """
        if name not in self.precisions:
            raise UsageError(
                f"precision must be one of {', '.join(self.precisions)}; got {name[:60]!r}. Correct the name."
            )
        return self.precisions[name]

    def expected_inputs(self, blueprint: Blueprint, selection: Selection) -> tuple[Input, ...]:
        """The inputs a file must have: token ids, keys and values of every layer, and what touches layers."""
        layers = range(blueprint.layers) if selection.cache else ()
        # Where layers differ, `head_gain` is as wide as the layer with the most heads.
        sizes = {"layers": blueprint.layers, "heads": blueprint.heads, "hidden": blueprint.hidden}
        return (
            Input(name=self.input_name, dtype="INT64", dims=self.input_dims),
            *(
                Input(name=tensor_name(row.kind, layer), dtype="FLOAT", dims=_resolve(row, blueprint, layer, selection))
                for layer in layers
                for row in self.cache_inputs
            ),
            *(
                Input(name=row.name, dtype="FLOAT", dims=tuple(sizes[dim] for dim in row.dims))
                for row in (self.interventions if selection.interventions else ())
            ),
        )

    def expected_outputs(self, blueprint: Blueprint, selection: Selection) -> tuple[Output, ...]:
        """The outputs a file must have: the contract's order, layer after layer; what a layer has not is left out.

        With `--cache` keys and values of every layer come last.
        """
        chosen = [output for output in self.outputs if output.kind == "logits" or output.kind in selection.activations]
        # A row of the table before the first layered one comes before all layers, the others after.
        first = next((i for i, output in enumerate(self.outputs) if output.layered), len(self.outputs))
        before = [output for output in chosen if not output.layered and self.outputs.index(output) < first]
        after = [output for output in chosen if not output.layered and self.outputs.index(output) > first]
        rows: list[tuple[OutputKind | CacheKind, int | None]] = [(output, None) for output in before]
        rows += [(output, layer) for layer in selection.layers for output in chosen if output.layered]
        rows += [(output, None) for output in after]
        rows = [(output, layer) for output, layer in rows if blueprint.has(output.kind, layer)]
        if selection.cache:
            rows += [(row, layer) for layer in range(blueprint.layers) for row in self.cache_outputs]
        return tuple(
            Output(
                name=tensor_name(output.kind, layer),
                kind=output.kind,
                layer=layer,
                dims=_resolve(output, blueprint, layer, selection),
                of=None if layer is None else blueprint.layer(layer),
                of_last_layer=layer == blueprint.layers - 1,
            )
            for output, layer in rows
        )


def _resolve(
    output: OutputKind | CacheKind, blueprint: Blueprint, layer: int | None, selection: Selection
) -> tuple[int | str, ...]:
    """Symbolic dimensions as numbers, where the model fixes them."""
    sizes = {"vocab": blueprint.vocab, "hidden": blueprint.hidden, "1": 1}
    if layer is not None:
        kind = blueprint.layer(layer)
        sizes |= {
            "heads": kind.heads,
            "kv_heads": kind.kv_heads,
            "head_dim": kind.head_dim,
            "qkv_dim": 3 * kind.head_dim,
            "intermediate": kind.intermediate,
            "experts": kind.experts,
        }
    dims: tuple[int | str, ...] = tuple(sizes.get(dim, dim) for dim in output.dims)
    if selection.cache and dims[-2:] == ("seq", "seq"):
        return (*dims[:-1], "total")
    return (dims[0], 1, dims[2]) if output.kind in ("logits", "logit_lens") and selection.logits == "last" else dims


@cache
def load_contract() -> Contract:
    """The contract of this checkout.

    Raises:
        ContractError: The file is missing or not what its schema says.
    """
    path = CONTRACT_FOLDER / "activations.json"
    try:
        return _parse(json.loads(read_bytes(path, limit_bytes=_LIMIT_BYTES).decode()))
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise ContractError(
            f"contract/activations.json must be readable and fit its schema, got {failure!r}. Restore the file."
        ) from failure


def _parse(document: Mapping[str, Any]) -> Contract:
    """The JSON document as values."""
    return Contract(
        version=document["contract_version"],
        input_name=document["input"]["name"],
        input_dims=tuple(document["input"]["shape"]),
        cache_inputs=_cache_kinds(document["cache"]["inputs"]),
        cache_outputs=_cache_kinds(document["cache"]["outputs"]),
        interventions=tuple(
            Intervention(name=row["name"], dims=tuple(row["shape"]), neutral=row["neutral"], meaning=row["meaning"])
            for row in document["interventions"]
        ),
        outputs=tuple(
            OutputKind(
                kind=row["kind"],
                layered="{L}" in row["name"],
                dims=tuple(row["shape"]),
                default=row["default"],
                on_request=row.get("on_request", False),
                transformer_lens=row["transformer_lens"],
                exists=row["exists"],
                meaning=row["meaning"],
            )
            for row in document["outputs"]
        ),
        dimensions=document["dimensions"],
        sums=tuple(Sum(total=row["total"], parts=tuple(row["parts"])) for row in document["sums"]),
        clauses={row["id"]: Clause(**row) for row in document["clauses"]},
        precisions={
            name: Precision(
                name=name,
                **{
                    **row,
                    "table": Storage(**row["table"]),
                    "matrix": Storage(**row["matrix"]),
                    "experts": Storage(**row["experts"]) if "experts" in row else None,
                    "domains": tuple(row.get("domains", ())),
                    "misread_by": tuple(row.get("misread_by", ())),
                    "tolerances": {kind: Tolerance(**limits) for kind, limits in row["tolerances"].items()},
                },
            )
            for name, row in document["precisions"].items()
        },
        min_opset=document["opsets"]["min"],
        max_opset=document["opsets"]["max"],
    )


def _cache_kinds(rows: Sequence[Mapping[str, Any]]) -> tuple[CacheKind, ...]:
    return tuple(
        CacheKind(
            kind=parse_tensor_name(row["name"].replace("{L}", "0"))[0],
            dims=tuple(row["shape"]),
            meaning=row["meaning"],
        )
        for row in rows
    )


def parse_activations(text: str | None) -> tuple[str, ...]:
    """Reads `--activations`: `all` (but what must be named), or names, where `default` stands for the default ones.

    >>> parse_activations("default,q")
    ('embedding_sum', 'q', 'attn_probs', 'mlp_output')

    Raises:
        UsageError: A name is not in the contract.
    """
    contract = load_contract()
    if text is None:
        return contract.default_activations
    wanted: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        if part in ("all", "default"):
            wanted.update(contract.common_activations if part == "all" else contract.default_activations)
        elif part in contract.all_activations or part == "logits":
            wanted.add(part)
        else:
            raise UsageError(
                f"activations must be all, default, or names among {', '.join(contract.all_activations)}; "
                f"got {part[:60]!r}. Correct the name."
            )
    return tuple(kind for kind in contract.all_activations if kind in wanted)


def parse_precisions(text: str) -> tuple[str, ...]:
    """Reads `--precision`: names of the contract besides fp32, without repeats, in the order given.

    Raises:
        UsageError: A name is not in the contract, or none is given.
    """
    contract = load_contract()
    made = tuple(name for name in contract.precisions if name != FULL_PRECISION)
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in made:
            raise UsageError(
                f"precision must be one or more of {', '.join(made)}; got {name[:60]!r}. Correct the name."
            )
    return tuple(dict.fromkeys(names))
