"""config.json -> Blueprint: a model is built without weights and run once on tensors that have shapes only."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.pytorch_utils import Conv1D

from model_release.base.errors import ExportError, WeightsError
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import (
    MOST_CONTEXT,
    Blueprint,
    LayerKind,
    Layout,
    Parameter,
    Role,
    parse_blueprint,
)
from model_release.contract.families import require_supported
from model_release.contract.tensor_names import parse_tensor_name
from model_release.model.export.attention import route_of
from model_release.model.export.module_kinds import is_norm
from model_release.model.export.network import (
    REFUSALS,
    Network,
    build_network,
    first_line,
    give_fake_parameters,
    quiet,
    with_layers,
)
from model_release.model.export.seams import Seams

DEFAULT_CONTEXT = 2048
"""Tokens that a model of more positions promises, if nothing else is asked for. Outputs grow with their square."""

_BATCH, _SEQ = 2, 7
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def draw_blueprint(config: Mapping[str, Any], *, tied: bool | None = None, context: int | None = None) -> Blueprint:
    """The blueprint of a model.

    Args:
        config: The parsed config.json; it is not trusted.
        tied: Whether the head is the token table, where the weights have overruled the config.
        context: Tokens to promise; by default the model's positions, at most `DEFAULT_CONTEXT`.

    Raises:
        WeightsError: The model is not supported, or has fewer positions than `context`.
        ExportError: transformers refuses the config, or the model has a part that no role fits.
    """
    require_supported(config)
    return _draw(json.dumps(config, sort_keys=True), tied, context)


@lru_cache(maxsize=32)
def _draw(config_text: str, tied: bool | None, context: int | None) -> Blueprint:
    config = json.loads(config_text)
    network = build_network(config, in_the_open=True, tied=tied)
    model: Any = network.model
    positions = int(getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT)
    if context is not None and not 1 <= context <= min(positions, MOST_CONTEXT):
        raise WeightsError(
            f"--context must be from 1 to the model's {positions} positions and at most {MOST_CONTEXT}, got {context}. "
            "Choose fewer."
        )
    tokens, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    places = [name for name, weight in model.named_parameters(remove_duplicate=False) if weight is head]
    parameters = _layouts(network)
    names = list(parameters)
    inside = f"{network.path}."
    start = next(index for index, name in enumerate(names) if name.startswith(inside))
    outer = [name for name in names if not name.startswith(inside)]
    numbers = [network.kinds.index(kind) for kind in sorted(set(network.kinds))]
    of_layer = [
        tuple(
            replace(parameter, name=f"{inside}{{L}}.{name.removeprefix(f'{inside}{number}.')}")
            for name, parameter in parameters.items()
            if name.startswith(f"{inside}{number}.")
        )
        for number in numbers
    ]
    shapes, seams = _run(with_layers(network, numbers))
    kinds = [_kind(shapes, place, seams, of_layer[place]) for place in range(len(numbers))]
    distinct = list(dict.fromkeys(kinds))
    if len(distinct) > len(_LETTERS):
        raise ExportError(
            f"layers must be of at most {len(_LETTERS)} kinds, got {len(distinct)}. Choose another model."
        )
    blueprint = Blueprint(
        family=config["model_type"],
        pattern="".join(_LETTERS[distinct.index(kinds[kind])] for kind in network.kinds),
        hidden=int(tokens.shape[1]),
        vocab=int(tokens.shape[0]),
        context=context or min(positions, DEFAULT_CONTEXT),
        tied=head is tokens,
        head=places[-1],
        outputs=_known(name for name, layer in map(parse_tensor_name, shapes) if layer is None),
        first=tuple(parameters[name] for name in outer if names.index(name) < start),
        last=tuple(parameters[name] for name in outer if names.index(name) > start),
        kinds={_LETTERS[index]: kind for index, kind in enumerate(distinct)},
    )
    try:
        return parse_blueprint(blueprint.to_json())
    except ValueError as failure:
        raise ExportError(
            f"config.json must describe a model within limits: {failure}. Choose another model."
        ) from failure


def _run(network: Network) -> tuple[dict[str, tuple[int, ...]], Seams]:
    """Shapes of every output of a run at batch 2, seq 7; and the seams that saw it."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    give_fake_parameters(network, mode)
    try:
        with quiet(), torch.no_grad(), mode, Seams(network, route=route_of(network)) as seams:
            seen = seams.run(torch.zeros(_BATCH, _SEQ, dtype=torch.int64))
            return {name: tuple(map(int, tensor.shape)) for name, tensor in seen.items()}, seams
    except REFUSALS as failure:
        raise ExportError(
            f"the model must run on shapes alone: {first_line(failure)}. This architecture is not supported yet."
        ) from failure


def _layouts(network: Network) -> dict[str, Parameter]:
    """Every parameter by name, in the model's order; a tied head is none of its own."""
    model: Any = network.model
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    owners = {id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)}
    owners |= {id(tokens.weight): tokens}
    found = {}
    for name, parameter in model.named_parameters():
        layout, role = _place(name, parameter, owners[id(parameter)])
        if owners[id(parameter)] is tokens:
            role = "tokens"
        elif owners[id(parameter)] is head and role == "matrix":
            role = "head"
        found[name] = Parameter(name=name, dims=tuple(parameter.shape), layout=layout, role=role)
    return found


def _place(name: str, parameter: torch.nn.Parameter, owner: torch.nn.Module) -> tuple[Layout, Role]:
    """How a parameter lies in memory, and what for, by the module it belongs to."""
    if parameter.dim() == 3:
        return ("expert_columns" if getattr(owner, "is_transposed", False) else "experts"), "matrix"
    if parameter.dim() != 2 or is_norm(owner) or name.endswith("bias"):
        return "vector", "vector"
    if isinstance(owner, Conv1D):
        return "columns", "matrix"
    return "rows", "positions" if isinstance(owner, torch.nn.Embedding) else "matrix"


def _kind(
    shapes: Mapping[str, tuple[int, ...]], place: int, seams: Seams, parameters: tuple[Parameter, ...]
) -> LayerKind:
    """A kind of layer, from the shapes of its outputs."""
    own = {
        kind: dims
        for (kind, layer), dims in ((parse_tensor_name(name), shapes[name]) for name in shapes)
        if layer == place
    }
    outputs = _known((*own, "logit_lens"))
    if own["v"][-1] != own["q"][-1]:
        raise ExportError("values must be as wide as queries. This architecture is not supported yet.")
    return LayerKind(
        heads=own["q"][1],
        kv_heads=own["k"][1],
        head_dim=own["q"][3],
        intermediate=own["mlp_fc1"][2] if "mlp_fc1" in own else 0,
        experts=own["expert_weights"][2] if "expert_weights" in own else 0,
        window=seams.windows[place],
        sinks=seams.sinks[place],
        outputs=outputs,
        parameters=parameters,
    )


def _known(kinds: Iterable[str]) -> tuple[str, ...]:
    """Kinds in the contract's order."""
    found = set(kinds)
    return tuple(output.kind for output in load_contract().outputs if output.kind in found)
