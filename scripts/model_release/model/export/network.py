"""config.json -> transformers' own module, without weights; and what of it is repeated.

Parameters are placeholders that hold no memory. What a model computes when it is built (rotary frequencies,
scales) is real, since its values become part of a graph.
"""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from model_release.base.errors import ExportError
from model_release.contract.families import numeric_config

NAME = "see_through"
"""What transformers knows our functions by; see `attention.py` and `experts.py`."""

REFUSALS = (
    *(TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError, ImportError),
    StopIteration,
)
"""What the code of a family's model raises for a config that it was not written for."""

_NUMBERS = ("layer_idx", "layer_id", "layer_number")  # What a layer is called is no difference between layers.


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model without weights.

    Attributes:
        model: transformers' module, in evaluation mode.
        path: Where its list of layers is, `model.layers`.
        numbers: The layers of the whole model that these are.
        kinds: The kind of each layer of the whole model: layers of one kind have the same modules.
        has_interface: Whether its attention is a function that can be registered.
    """

    model: PreTrainedModel
    path: str
    numbers: Sequence[int]
    kinds: Sequence[int]
    has_interface: bool

    @property
    def blocks(self) -> torch.nn.ModuleList:
        """The layers."""
        return cast(torch.nn.ModuleList, self.model.get_submodule(self.path))

    def original_name(self, name: str) -> str:
        """The whole model's name of a parameter of this one, where layers are left out."""
        before = f"{self.path}."
        if not name.startswith(before):
            return name
        place, _, rest = name.removeprefix(before).partition(".")
        return f"{before}{self.numbers[int(place)]}.{rest}"


def build_network(config: Mapping[str, Any], *, in_the_open: bool, tied: bool | None = None) -> Network:
    """Builds a model of all its layers.

    Args:
        config: The parsed config.json, judged by `families.require_supported`.
        in_the_open: Whether attention and experts are computed by our registered functions, where its code allows
            that, or by the model's own eager ones.
        tied: Whether the head is the token table, where the weights have overruled the config.

    Raises:
        ExportError: transformers refuses the config, or the model is built in a way the mechanism does not know.
    """
    entries = numeric_config(config)
    if tied is not None:
        entries["tie_word_embeddings"] = tied
    try:
        with quiet():
            built = AutoConfig.for_model(config["model_type"], **entries)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
                setattr(built, name, None)
            built.use_cache = False
            model_class = AutoModelForCausalLM._model_mapping[type(built)]
            has_interface = "ALL_ATTENTION_FUNCTIONS" in vars(sys.modules[cast(type, model_class).__module__])
            built._attn_implementation = NAME if in_the_open and has_interface else "eager"
            built._experts_implementation = NAME if in_the_open else "eager"
            with torch.no_grad(), no_init_weights(), _WithoutMemory():
                model: PreTrainedModel = cast(Any, model_class)(built)
    except (*REFUSALS, StrictDataclassError) as failure:
        raise ExportError(
            f"config.json must be a {config['model_type']} config that transformers can build a model from: "
            f"{first_line(failure)}. Correct the config."
        ) from failure
    model.train(False)
    model.tie_weights()
    count = built.num_hidden_layers
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise ExportError(f"the model must hold its {count} layers in one list, got none. Report this as a defect.")
    path = min(lists, key=lambda name: name.count("."))
    signatures = [_signature(block) for block in model.get_submodule(path).children()]
    known = {signature: number for number, signature in enumerate(dict.fromkeys(signatures))}
    network = Network(
        model=model,
        path=path,
        numbers=range(count),
        kinds=[known[signature] for signature in signatures],
        has_interface=has_interface,
    )
    give_parameters(network, lambda _, parameter: torch.empty(parameter.shape, device="meta"))
    return network


def with_layers(network: Network, numbers: Sequence[int]) -> Network:
    """Leaves only some layers in a network, and what its config says of them."""
    before = len(network.blocks)
    config = network.model.config
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == before:
            setattr(config, name, [value[number] for number in numbers])
    layers_name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if layers_name in vars(config):
        setattr(config, layers_name, len(numbers))
    parent, _, name = network.path.rpartition(".")
    setattr(
        network.model.get_submodule(parent), name, torch.nn.ModuleList([network.blocks[number] for number in numbers])
    )
    return replace(network, numbers=tuple(numbers))


class _WithoutMemory(TorchFunctionMode):
    """Makes what has no values yet without memory; parameters are made so."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        _types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def give_parameters(network: Network, make: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Puts tensors in the place of placeholders; one that is in two places stays one.

    Args:
        network: Its parameters are replaced.
        make: Name and placeholder -> tensor.
    """
    made = {
        id(parameter): (parameter, torch.nn.Parameter(make(name, parameter), requires_grad=False))
        for name, parameter in network.model.named_parameters()
    }
    for module in network.model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = made[id(parameter)][1]


def give_fake_parameters(network: Network, mode: FakeTensorMode) -> None:
    """Gives a network the tensors without values that a run on shapes, or a trace, wants."""

    def make(_name: str, placeholder: torch.Tensor) -> torch.Tensor:
        with mode:
            return torch.empty(placeholder.shape)

    give_parameters(network, make)


def _signature(block: torch.nn.Module) -> tuple[object, ...]:
    """What makes a layer: its modules, their settings, and their parameters' shapes."""
    found: list[object] = []
    for path, module in block.named_modules():
        settings = [
            (name, value)
            for name, value in sorted(vars(module).items())
            if isinstance(value, bool | int | float | str | None) and name not in _NUMBERS
        ]
        shapes = [(name, tuple(tensor.shape)) for name, tensor in module.named_parameters(recurse=False)]
        found.append((path, type(module).__name__, tuple(settings), tuple(shapes)))
    return tuple(found)


def first_line(failure: Exception) -> str:
    """What a library said, as far as it fits in a sentence."""
    lines = str(failure).strip().splitlines()
    return " ".join(lines[:2])[:300] if lines else type(failure).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' chatter off the terminal; failures still raise."""
    before = logging.root.manager.disable
    logging.disable()  # PyTorch logs the tracebacks of what it raises.
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
