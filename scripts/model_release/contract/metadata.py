"""What a model file says of itself, so that `verify.py --model FILE` needs nothing else."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_release.base.errors import ContractError, UsageError
from model_release.contract.activations import load_contract, parse_activations
from model_release.contract.blueprint import Blueprint, gpt2_blueprint, parse_blueprint
from model_release.contract.precision import Precision
from model_release.contract.selection import Selection, parse_layers

_PREFIX = "model_release."
_WIDTHS = f"{_PREFIX}widths"
_ASKED = {f"{_PREFIX}{name}": name for name in ("cache", "interventions")}
"""What a file says only where it was asked for."""


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """The `metadata_props` of a released model.

    Attributes:
        contract_version: The contract the file was made for.
        source: Repository on the Hub, `demo`, or `local`.
        revision: Commit of the repository, or empty.
        weights_sha256: Of the weights file; see `model.weights.folder` for shards.
        blueprint: What the model is.
        selection: Exported layers, activations and logits.
        precision: A name of the contract.
        widths: Weights that a code stands for, by parameter, where the file was fitted to a budget; empty elsewhere.
    """

    contract_version: str
    source: str
    revision: str
    weights_sha256: str
    blueprint: Blueprint
    selection: Selection
    precision: str
    widths: Mapping[str, int] = field(default_factory=dict)

    @property
    def stored_precision(self) -> Precision:
        """The precision with the widths that this file's parameters have."""
        return load_contract().precision(self.precision).fitted(self.widths)

    def to_props(self) -> dict[str, str]:
        """The metadata as ONNX `metadata_props`, in a fixed order."""
        props = {
            f"{_PREFIX}contract_version": self.contract_version,
            f"{_PREFIX}source": self.source,
            f"{_PREFIX}revision": self.revision,
            f"{_PREFIX}weights_sha256": self.weights_sha256,
            f"{_PREFIX}blueprint": self.blueprint.to_json(),
            f"{_PREFIX}layers": ",".join(map(str, self.selection.layers)),
            f"{_PREFIX}activations": ",".join(self.selection.activations),
            f"{_PREFIX}logits": self.selection.logits,
            f"{_PREFIX}precision": self.precision,
        } | {key: "true" for key, name in _ASKED.items() if getattr(self.selection, name)}
        if self.widths:
            props[_WIDTHS] = "".join(str(self.widths[name]) for name in _with_widths(self.blueprint))
        return props


def metadata_from_props(props: Mapping[str, str]) -> ModelMetadata:
    """Reads the metadata of a model file; its text is not trusted.

    Raises:
        ContractError: A key is missing, or its value is not one we write.
    """
    if f"{_PREFIX}shape" in props and f"{_PREFIX}blueprint" not in props:
        props = {**props, f"{_PREFIX}blueprint": _of_sizes(props[f"{_PREFIX}shape"]).to_json()}
    missing = [key for key in _keys() if key not in props]
    if missing:
        raise ContractError(
            f"META01: the model file must carry this project's metadata, {missing[0]!r} is missing. "
            "Export it with scripts/export.py."
        )
    values = {key: props[key] for key in (*_keys(), *_ASKED, _WIDTHS) if key in props}
    if not all(isinstance(value, str) for value in values.values()):  # protobuf gives bytes for what is no UTF-8
        raise ContractError("META01: the model file's metadata must be text. Export the model again.")
    blueprint = _blueprint(values[f"{_PREFIX}blueprint"])
    activations = values[f"{_PREFIX}activations"]
    try:
        return ModelMetadata(
            contract_version=_match(values, "contract_version", r"[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}"),
            source=_match(values, "source", r"[A-Za-z0-9][\w./-]{0,200}"),
            revision=_match(values, "revision", r"[0-9a-f]{0,64}"),
            weights_sha256=_match(values, "weights_sha256", r"[0-9a-f]{64}"),
            blueprint=blueprint,
            selection=Selection(
                layers=parse_layers(values[f"{_PREFIX}layers"], blueprint.layers),
                activations=parse_activations(activations) if activations else (),
                logits="last" if _match(values, "logits", "all|last") == "last" else "all",
                **{name: key in values and _match(values, name, "true") == "true" for key, name in _ASKED.items()},
            ),
            precision=load_contract().precision(values[f"{_PREFIX}precision"]).name,
            widths=_widths(values, blueprint) if _WIDTHS in values else {},
        )
    except UsageError as failure:
        raise ContractError(
            f"META01: the model file's metadata must be what this project writes: {failure}"
        ) from failure


def metadata_of(file: str, props: Mapping[str, str]) -> ModelMetadata:
    """As `metadata_from_props`, with the file's name in the sentence.

    Raises:
        ContractError: See `metadata_from_props`.
    """
    try:
        return metadata_from_props(props)
    except ContractError as failure:
        raise ContractError(f"{file}: {failure}") from failure


def _keys() -> tuple[str, ...]:
    names = (
        "contract_version",
        "source",
        "revision",
        "weights_sha256",
        "blueprint",
        "layers",
        "activations",
        "logits",
        "precision",
    )
    return tuple(f"{_PREFIX}{name}" for name in names)


def _match(values: Mapping[str, str], name: str, pattern: str) -> str:
    value = values[f"{_PREFIX}{name}"]
    if not re.fullmatch(pattern, value, re.ASCII):
        raise ContractError(
            f"META01: metadata {name} must match {pattern}, got {value[:60]!r}. Export the model again."
        )
    return value


def _with_widths(blueprint: Blueprint) -> list[str]:
    """The parameters whose widths are written, a digit each, in this order."""
    return [name for name, parameter in blueprint.parameters.items() if not parameter.is_vector]


def _widths(values: Mapping[str, str], blueprint: Blueprint) -> dict[str, int]:
    names = _with_widths(blueprint)
    digits = _match(values, "widths", f"[1-4]{{{len(names)}}}")
    return dict(zip(names, map(int, digits), strict=True))


def _blueprint(text: str) -> Blueprint:
    try:
        return parse_blueprint(text)
    except ValueError as failure:
        raise ContractError(
            f"META01: metadata blueprint must be a model's, got {text[:60]!r}: {failure}. Export the model again."
        ) from failure


def _of_sizes(text: str) -> Blueprint:
    """Of the sizes that files of contracts 1.0 and 1.1 hold, which are GPT-2s."""
    try:
        sizes: Any = json.loads(text)
        return gpt2_blueprint(**sizes)
    except (ValueError, TypeError, RecursionError) as failure:
        raise ContractError(
            f"META01: metadata shape must be the model's sizes, got {text[:60]!r}. Export the model again."
        ) from failure
