"""What is known of a model file without running it, and the contract -> a judgement. Pure, as `output_checks`."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from model_release.contract.activations import Contract, Output, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.clauses import NOTHING_JUDGED, Judgement, Ruling, check
from model_release.contract.metadata import ModelMetadata
from model_release.contract.precision import Precision
from model_release.contract.storage import CODEBOOK_ENTRIES

SIZE_SHARE = 0.01
"""SIZE01: how far stored bytes may be from the expected ones."""


@dataclass(frozen=True, kw_only=True)
class ValueFacts:
    """A graph input or output: ONNX dtype name, and dims as numbers or symbols."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """A stored tensor: an initializer or a constant inside the graph."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model file without running it; made by `model.onnx_files.facts`."""

    props: Mapping[str, str]
    inputs: tuple[ValueFacts, ...]
    outputs: tuple[ValueFacts, ...]
    tensors: tuple[TensorFacts, ...]
    opset: int
    domains: tuple[str, ...]
    file_bytes: int
    checker_problem: str


def check_structure(facts: ModelFacts, metadata: ModelMetadata) -> Judgement:
    """The clauses of the stage `structure`, which need no run."""
    contract = load_contract()
    expected = {output.name: output for output in contract.expected_outputs(metadata.blueprint, metadata.selection)}
    known = [value for value in facts.outputs if value.name in expected]
    return sum(
        (
            check_version(metadata, contract),
            check_input(facts, metadata),
            check_names([value.name for value in facts.outputs], expected),
            check_types(known),
            check_dims(known, expected),
            check_graph(facts, metadata, contract),
            check_table(facts, metadata),
            check_size(facts, metadata),
        ),
        start=NOTHING_JUDGED,
    )


@check("META01", needs="a model file")
def check_version(metadata: ModelMetadata, contract: Contract) -> Iterator[Ruling]:
    """Judges the contract's version; metadata that cannot be read has been refused by `metadata_from_props`."""
    major = contract.version.split(".")[0]
    wrong = metadata.contract_version.split(".")[0] != major
    yield "", f"contract version must be {major}.x, got {metadata.contract_version}" if wrong else ""


@check("IO01", needs="a model file")
def check_input(facts: ModelFacts, metadata: ModelMetadata) -> Iterator[Ruling]:
    """Judges the inputs that a file declares."""
    ids, *past = (
        ValueFacts(name=value.name, dtype=value.dtype, dims=value.dims)
        for value in load_contract().expected_inputs(metadata.blueprint, metadata.selection)
    )
    if not past:
        got = ", ".join(_describe(value) for value in facts.inputs) or "none"
        yield "", f"the only input must be {_describe(ids)}, got {got}" if facts.inputs != (ids,) else ""
        return
    for number, (wanted, value) in enumerate(zip_longest((ids, *past), facts.inputs)):
        must = _describe(wanted) if wanted else "none"
        message = f"input {number} must be {must}, got {_describe(value) if value else 'none'}"
        yield (wanted or value).name, message if value != wanted else ""


@check("IO02", needs="a model file")
def check_names(got: Collection[str], expected: Collection[str]) -> Iterator[Ruling]:
    """Judges the names of all outputs, declared by a file or returned by a run."""
    for name in expected:
        yield name, "" if name in got else "the output is missing"
    for name in got:
        if name not in expected:
            yield name, "the output is not in the contract's set"


@check("IO03", needs="an output under a name of the contract")
def check_types(known: Iterable[ValueFacts]) -> Iterator[Ruling]:
    """Judges the types of declared outputs."""
    for value in known:
        yield value.name, f"dtype must be float32, got {value.dtype.lower()}" if value.dtype != "FLOAT" else ""


@check("IO04", needs="an output under a name of the contract")
def check_dims(known: Iterable[ValueFacts], expected: Mapping[str, Output]) -> Iterator[Ruling]:
    """Judges the shapes of declared outputs."""
    for value in known:
        wanted = expected[value.name].dims
        wrong = value.dims != wanted
        yield value.name, f"declared shape must be {_dims(wanted)}, got {_dims(value.dims)}" if wrong else ""


@check("GRAPH01", needs="a model file")
def check_graph(facts: ModelFacts, metadata: ModelMetadata, contract: Contract) -> Iterator[Ruling]:
    """Judges opset, operators, and what the ONNX checker says."""
    domains = contract.precision(metadata.precision).domains
    least, most = contract.min_opset, contract.max_opset
    known = least <= facts.opset <= most
    yield "", "" if known else f"opset must be from {least} to {most}, got {facts.opset}"
    foreign = ", ".join(domain for domain in facts.domains if domain not in ("", *domains))
    allowed = " or of ".join(("of the standard ONNX domain", *domains))
    yield "", f"operators must be {allowed}, got {foreign}" if foreign else ""
    problem = facts.checker_problem
    yield "", f"the ONNX checker must accept the file, it says: {problem}" if problem else ""


@check("TIED01", needs="a model file")
def check_table(facts: ModelFacts, metadata: ModelMetadata) -> Iterator[Ruling]:
    """Counts tensors of the token table's size; constants inside the graph count as well."""
    blueprint = metadata.blueprint
    table = blueprint.tokens.dims
    either_way = (table, table[::-1])  # A copy for the head may well stand transposed.
    more = sum(tensor.dims in either_way for tensor in facts.tensors) - sum(
        parameter.dims in either_way for parameter in blueprint.parameters.values()
    )
    what = "once, head included" if blueprint.tied else f"once, beside {blueprint.head}"
    message = f"the token table must be stored {what}, got {more} more of its size"
    yield blueprint.tokens.name, message if more > 0 else ""


@check("SIZE01", needs="a model file")
def check_size(facts: ModelFacts, metadata: ModelMetadata) -> Iterator[Ruling]:
    """Judges the bytes of stored tensors, constants inside the graph among them, and those of the graph around them."""
    expected = stored_bytes(metadata.blueprint, metadata.stored_precision)
    stored = sum(tensor.size_bytes for tensor in facts.tensors)
    # A few scalars (epsilon, axes, shapes) are no parameters; they are bounded as part of the graph.
    most = expected * (1 + SIZE_SHARE) + 4096 + _angle_bytes(metadata.blueprint)
    fits = expected * (1 - SIZE_SHARE) <= stored <= most
    message = f"stored tensors must take {expected:,} bytes within 1 % for {metadata.precision}, got {stored:,}"
    yield "", "" if fits else message
    graph, allowance = facts.file_bytes - stored, 65_536 + 32_768 * metadata.blueprint.layers
    yield "", f"the graph must take at most {allowance:,} bytes, got {graph:,}" if graph > allowance else ""


def _angle_bytes(blueprint: Blueprint) -> int:
    """The most that cosines and sines of rotary positions take: [context, head_dim] of each, at two frequencies."""
    widths = [kind.head_dim for kind in blueprint.kinds.values() if "q_rot" in kind.outputs]
    return 2 * 2 * 4 * blueprint.context * max(widths, default=0)


def stored_bytes(blueprint: Blueprint, precision: Precision) -> int:
    """Bytes that a model's unique parameters take in a precision, with scales and codebooks."""
    parameters = blueprint.parameters.values()
    used = {precision.storage(parameter) for parameter in parameters if not parameter.is_vector}
    size_bytes = sum(
        CODEBOOK_ENTRIES * weights * 4 for weights in {storage.weights for storage in used if storage.is_codebook}
    )
    for parameter in parameters:
        if parameter.is_vector:
            size_bytes += parameter.size * precision.vector_bits // 8
        else:
            storage, channels = precision.storage(parameter), parameter.channels
            dims = (channels, parameter.inputs) if storage.is_packed else parameter.matrix
            size_bytes += storage.size_bytes(*dims, channels)
    return size_bytes


def _describe(value: ValueFacts) -> str:
    return f"{value.name} {value.dtype.lower()} {_dims(value.dims)}"


def _dims(dims: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, dims))}]"
