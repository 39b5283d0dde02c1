"""What a model is, as plain data: sizes, kinds of layers and their pattern, parameters and how each lies in memory.

A blueprint is drawn from a model's own modules (see `model/export/survey.py`) and stands in the metadata of
every file made from it. Whoever reads one knows all that names, shapes, sizes and storage depend on, and
needs to know no family of models. What a blueprint does not say (activation functions, constants) is in the graph.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

Layout = Literal["rows", "columns", "vector", "experts", "expert_columns"]
"""How a parameter lies in memory.

- `rows`: [out, in], a channel a row: nn.Linear, and tables [rows, hidden].
- `columns`: [in, out], a channel a column: transformers' Conv1D.
- `vector`: biases and gains; some have two axes.
- `experts`: [experts, out, in]. `expert_columns`: [experts, in, out].
"""

Role = Literal["tokens", "positions", "head", "matrix", "vector"]
"""What a parameter is for. Tables (`tokens`, `positions`, `head`) are stored finer than matrices are."""

_TABLES = ("tokens", "positions", "head")
MOST_CONTEXT = 65_536
"""The most tokens that can be promised: one head's attention map of them is 17 GB."""

_LIMITS = {
    "heads": 1024,
    "kv_heads": 1024,
    "head_dim": 65_536,
    "intermediate": 4_194_304,
    "experts": 4096,
    "window": 2**40,
    "hidden": 65_536,
    "vocab": 4_194_304,
    "context": MOST_CONTEXT,
}
_MAY_BE_ZERO = ("heads", "kv_heads", "head_dim", "intermediate", "experts", "window")
_LARGEST_DIM = 4_194_304
_MOST_LAYERS = 512
_MOST_PARAMETERS = 256  # Of one layer.
_NAME = re.compile(r"[A-Za-z_](\w|\.|\{L\}){0,199}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)
_KIND_LETTERS = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A tensor of weights.

    Attributes:
        name: As the model names it; in a kind of layer `{L}` stands for the layer's number.
        dims: Its shape.
        layout: See `Layout`.
        role: See `Role`.
    """

    name: str
    dims: tuple[int, ...]
    layout: Layout
    role: Role

    @property
    def is_table(self) -> bool:
        """Whether it is the token or position table, or a head of its own."""
        return self.role in _TABLES

    @property
    def is_vector(self) -> bool:
        """Whether it is stored number by number, with no scales."""
        return self.layout == "vector"

    @property
    def is_of_experts(self) -> bool:
        """Whether it holds a matrix of each expert."""
        return self.layout in ("experts", "expert_columns")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def matrix(self) -> tuple[int, int]:
        """The shape as one matrix, [rows, last axis]: experts are stacked."""
        return self.size // self.dims[-1], self.dims[-1]

    @property
    def input_axis(self) -> int:
        """The axis a product sums over: the last one, or with `columns` the one before it."""
        return -2 if self.layout in ("columns", "expert_columns") else -1

    @property
    def inputs(self) -> int:
        """How many numbers a product sums over."""
        return self.dims[self.input_axis]

    @property
    def channels(self) -> int:
        """Number of outputs of its products, of all experts: as many as channels that may have a scale."""
        return self.size // self.inputs


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """What layers of one kind have in common. A size is 0 where a layer has no such part.

    Attributes:
        heads: Attention heads.
        kv_heads: Heads of keys and values; each serves `heads / kv_heads` query heads.
        head_dim: Width of one head.
        intermediate: Width of the MLP's hidden layer; 0 for experts.
        experts: Number of experts.
        window: Keys a query sees, itself included; 0 if it sees all before it.
        sinks: Whether a part of the attention goes to no token, so that rows sum to less than 1.
        outputs: Kinds of activations there are.
        parameters: Names hold `{L}`.
    """

    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    experts: int = 0
    window: int = 0
    sinks: bool = False
    outputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def is_gated(self) -> bool:
        """Whether the MLP's hidden layer is a product of two projections, gate and up."""
        return "mlp_up" in self.outputs


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """See the module.

    Attributes:
        family: `model_type`, as transformers calls it.
        pattern: The kind of each layer, a letter a layer: `AAABAAAB`.
        hidden: Width of the residual stream.
        vocab: Rows of the token table.
        context: The longest sequence that is promised and verified.
        tied: Whether the head is the token table.
        head: Name of the head's weight, also where it is the token table.
        outputs: Kinds of activations there are once a model.
        first: Parameters before the layers.
        last: Parameters after them.
        kinds: Letter -> kind of layer.
    """

    family: str
    pattern: str
    hidden: int
    vocab: int
    context: int
    tied: bool
    head: str
    outputs: tuple[str, ...]
    first: tuple[Parameter, ...]
    last: tuple[Parameter, ...]
    kinds: Mapping[str, LayerKind]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.pattern)

    @property
    def heads(self) -> int:
        """Most attention heads of a layer."""
        return max(kind.heads for kind in self.kinds.values())

    def layer(self, number: int) -> LayerKind:
        """The kind of one layer."""
        return self.kinds[self.pattern[number]]

    def has(self, output: str, layer: int | None) -> bool:
        """Whether there is an output of this kind, in this layer or, with None, once a model."""
        return output in (self.outputs if layer is None else self.layer(layer).outputs)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Every parameter by name, in the model's order. A tied head has none of its own."""
        found = {parameter.name: parameter for parameter in self.first}
        for number in range(self.layers):
            for parameter in self.layer(number).parameters:
                name = parameter.name.replace("{L}", str(number))
                found[name] = replace(parameter, name=name)
        return found | {parameter.name: parameter for parameter in self.last}

    @property
    def tokens(self) -> Parameter:
        """The token table, [vocab, hidden]; a tied model's head is this very table."""
        return next(parameter for parameter in self.first if parameter.role == "tokens")

    @property
    def parameter_count(self) -> int:
        """Number of unique parameters; a tied table counts once."""
        return sum(parameter.size for parameter in self.parameters.values())

    @property
    def sizes(self) -> dict[str, Any]:
        """What people ask of a model first, for manifests and pages."""
        kinds = self.kinds.values()
        return {
            "family": self.family,
            "layers": self.layers,
            "pattern": self.pattern,
            "heads": self.heads,
            "kv_heads": max(kind.kv_heads for kind in kinds),
            "head_dim": max(kind.head_dim for kind in kinds),
            "hidden": self.hidden,
            "intermediate": max(kind.intermediate for kind in kinds),
            "experts": max(kind.experts for kind in kinds),
            "vocab": self.vocab,
            "context": self.context,
            "tied": self.tied,
        }

    def to_json(self) -> str:
        """The blueprint as text, without spaces; the inverse of `parse_blueprint`."""
        document = asdict(self)
        for group in (document, *document["kinds"].values()):
            for name in {"first", "last", "parameters"} & group.keys():
                group[name] = [[row["name"], list(row["dims"]), row["layout"], row["role"]] for row in group[name]]
        return json.dumps(document, separators=(",", ":"))


def parse_blueprint(text: str) -> Blueprint:
    """Reads a blueprint; its text is not trusted.

    Raises:
        ValueError: It is not what `Blueprint.to_json` writes, or its sizes are absurd.
    """
    try:
        document = json.loads(text)
        kinds = {letter: _kind(kind) for letter, kind in document.pop("kinds").items()}
        blueprint = Blueprint(
            **document
            | {
                "outputs": _words(document["outputs"]),
                "first": _parameters(document["first"]),
                "last": _parameters(document["last"]),
                "kinds": kinds,
            }
        )
    except (TypeError, KeyError, AttributeError, RecursionError) as failure:
        raise ValueError(f"no blueprint: {failure!r}"[:120]) from failure
    _check_sizes(blueprint, ("hidden", "vocab", "context"))
    if not (
        all(isinstance(value, str) for value in (blueprint.family, blueprint.pattern, blueprint.head))
        and _WORD.fullmatch(blueprint.family)
        and _NAME.fullmatch(blueprint.head)
        and type(blueprint.tied) is bool
        and 1 <= blueprint.layers <= _MOST_LAYERS
        and set(blueprint.pattern) == set(kinds)
        and all(_KIND_LETTERS.fullmatch(letter) for letter in kinds)
        and sum(parameter.role == "tokens" for parameter in blueprint.first) == 1
        and blueprint.tokens.dims == (blueprint.vocab, blueprint.hidden)
        and all(table.dims[0] >= blueprint.context for table in blueprint.first if table.role == "positions")
    ):
        raise ValueError(
            "no blueprint: it must name a family, a pattern of known kinds, one token table and a context in it"
        )
    return blueprint


def _kind(document: Mapping[str, Any]) -> LayerKind:
    kind = LayerKind(
        **{
            **document,
            "outputs": _words(document["outputs"]),
            "parameters": _parameters(document["parameters"]),
        }
    )
    _check_sizes(kind, _MAY_BE_ZERO)
    if type(kind.sinks) is not bool or (kind.heads and (not kind.kv_heads or kind.heads % kind.kv_heads)):
        raise ValueError("no blueprint: heads must be a multiple of kv_heads")
    return kind


def _check_sizes(owner: Blueprint | LayerKind, names: tuple[str, ...]) -> None:
    for name in names:
        size = getattr(owner, name)
        if type(size) is not int or not int(name not in _MAY_BE_ZERO) <= size <= _LIMITS[name]:
            raise ValueError(f"no blueprint: {name} must be a whole number up to {_LIMITS[name]}, got {size!r}"[:120])


def _words(rows: object) -> tuple[str, ...]:
    if not isinstance(rows, list) or not all(isinstance(row, str) and _WORD.fullmatch(row) for row in rows):
        raise ValueError("no blueprint: outputs must be kinds")
    return tuple(rows)


def _parameters(rows: object) -> tuple[Parameter, ...]:
    if not isinstance(rows, list) or len(rows) > _MOST_PARAMETERS:
        raise ValueError(f"no blueprint: parameters must be at most {_MOST_PARAMETERS}")
    found = []
    for row in rows:
        name, dims, layout, role = row
        if not (
            isinstance(name, str)
            and _NAME.fullmatch(name)
            and isinstance(dims, list)
            and all(type(dim) is int and 1 <= dim <= _LARGEST_DIM for dim in dims)
            and len(dims) in {"rows": (2,), "columns": (2,), "vector": (1, 2)}.get(layout, (3,))
            and layout in get_args(Layout)
            and role in get_args(Role)
        ):
            raise ValueError(f"no blueprint: a parameter must be a name, dims, layout and role, got {row!r}"[:120])
        found.append(Parameter(name=name, dims=tuple(dims), layout=layout, role=role))
    return tuple(found)


def gpt2_blueprint(
    *, layers: int, heads: int, hidden: int, intermediate: int, vocab: int, positions: int, tied: bool
) -> Blueprint:
    """The blueprint of a GPT-2. Files of contracts 1.0 and 1.1 hold no more than these sizes.

    Raises:
        ValueError: The sizes are absurd, or heads do not divide hidden.
    """
    whole = all(type(size) is int and 0 < size < 2**31 for size in (layers, heads, hidden))
    if not whole or hidden % heads or layers > _MOST_LAYERS:
        raise ValueError(f"sizes must be those of a model, got {layers!r}, {heads!r} and {hidden!r}"[:120])

    def vector(name: str, size: int) -> Parameter:
        return Parameter(name=name, dims=(size,), layout="vector", role="vector")

    def norm(name: str) -> tuple[Parameter, Parameter]:
        return vector(f"{name}.weight", hidden), vector(f"{name}.bias", hidden)

    def projection(name: str, width: int, out: int) -> tuple[Parameter, Parameter]:
        weight = Parameter(name=f"{name}.weight", dims=(width, out), layout="columns", role="matrix")
        return weight, vector(f"{name}.bias", out)

    block = "transformer.h.{L}"
    head = Parameter(name="lm_head.weight", dims=(vocab, hidden), layout="rows", role="head")
    kind = LayerKind(
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate=intermediate,
        outputs=_GPT2_LAYER_OUTPUTS,
        parameters=(
            *norm(f"{block}.ln_1"),
            *projection(f"{block}.attn.c_attn", hidden, 3 * hidden),
            *projection(f"{block}.attn.c_proj", hidden, hidden),
            *norm(f"{block}.ln_2"),
            *projection(f"{block}.mlp.c_fc", hidden, intermediate),
            *projection(f"{block}.mlp.c_proj", intermediate, hidden),
        ),
    )
    blueprint = Blueprint(
        family="gpt2",
        pattern="A" * layers,
        hidden=hidden,
        vocab=vocab,
        context=positions,
        tied=tied,
        head=head.name,
        outputs=_GPT2_OUTPUTS,
        first=(
            Parameter(name="transformer.wte.weight", dims=(vocab, hidden), layout="rows", role="tokens"),
            Parameter(name="transformer.wpe.weight", dims=(positions, hidden), layout="rows", role="positions"),
        ),
        last=(*norm("transformer.ln_f"), *(() if tied else (head,))),
        kinds={"A": kind},
    )
    return parse_blueprint(blueprint.to_json())


_GPT2_OUTPUTS = (
    *("logits", "token_embedding", "position_embedding", "embedding_sum"),
    *("final_ln_scale", "final_ln"),
)
_GPT2_LAYER_OUTPUTS = (
    *("resid_pre", "ln_1_scale", "ln_1", "qkv", "q", "k", "v", "attn_scores", "attn_probs", "attn_z", "head_output"),
    *("attn_output", "resid_mid", "ln_2_scale", "ln_2", "mlp_fc1", "mlp_gelu", "mlp_output", "resid_post"),
    "logit_lens",
)
