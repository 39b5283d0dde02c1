"""What is known of a model file without running it x contract -> findings. Pure judgement, as in `checks.py`."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from model_release.contract.activations import Contract, Precision, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.clauses import Finding, finding
from model_release.contract.metadata import ModelMetadata
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
    """What is known of a model file without running it; made by `graph.read_facts`."""

    props: Mapping[str, str]
    inputs: tuple[ValueFacts, ...]
    outputs: tuple[ValueFacts, ...]
    tensors: tuple[TensorFacts, ...]
    opset: int
    domains: tuple[str, ...]
    file_bytes: int
    checker_problem: str


def check_structure(facts: ModelFacts, metadata: ModelMetadata) -> list[Finding]:
    """The clauses that need no run: IO01–IO04, GRAPH01, TIED01, SIZE01 and the contract's version."""
    contract = load_contract()
    findings = list(_check_version(metadata, contract))
    wanted_input = ValueFacts(name=contract.input_name, dtype="INT64", dims=("batch", "seq"))
    if facts.inputs != (wanted_input,):
        got = ", ".join(_describe(value) for value in facts.inputs) or "none"
        findings.append(finding("IO01", "", f"the only input must be {_describe(wanted_input)}, got {got}"))
    expected = {output.name: output for output in contract.expected_outputs(metadata.blueprint, metadata.selection)}
    findings += check_names([value.name for value in facts.outputs], expected)
    for value in facts.outputs:
        if value.name not in expected:
            continue
        if value.dtype != "FLOAT":
            findings.append(finding("IO03", value.name, f"dtype must be float32, got {value.dtype.lower()}"))
        if value.dims != expected[value.name].dims:
            findings.append(
                finding(
                    "IO04",
                    value.name,
                    f"declared shape must be {_dims(expected[value.name].dims)}, got {_dims(value.dims)}",
                )
            )
    findings += _check_graph(facts, contract)
    findings += _check_storage(facts, metadata)
    return findings


def check_names(got: Collection[str], expected: Collection[str]) -> list[Finding]:
    """IO02: the names of all outputs, declared by a file or returned by a run."""
    missing = [finding("IO02", name, "the output is missing") for name in expected if name not in got]
    foreign = [finding("IO02", name, "the output is not in the contract's set") for name in got if name not in expected]
    return [*missing, *foreign]


def _check_version(metadata: ModelMetadata, contract: Contract) -> Iterator[Finding]:
    if metadata.contract_version.split(".")[0] != contract.version.split(".")[0]:
        yield finding(
            "META01",
            "",
            f"contract version must be {contract.version.split('.')[0]}.x, got {metadata.contract_version}",
        )


def _check_graph(facts: ModelFacts, contract: Contract) -> Iterator[Finding]:
    if not contract.min_opset <= facts.opset <= contract.max_opset:
        yield finding(
            "GRAPH01", "", f"opset must be from {contract.min_opset} to {contract.max_opset}, got {facts.opset}"
        )
    foreign = [domain for domain in facts.domains if domain]
    if foreign:
        yield finding("GRAPH01", "", f"operators must be of the standard ONNX domain, got {', '.join(foreign)}")
    if facts.checker_problem:
        yield finding("GRAPH01", "", f"the ONNX checker must accept the file, it says: {facts.checker_problem}")


def _check_storage(facts: ModelFacts, metadata: ModelMetadata) -> Iterator[Finding]:
    """TIED01 and SIZE01, from tensors' shapes and bytes; constants inside the graph count as well."""
    precision = load_contract().precision(metadata.precision)
    blueprint = metadata.blueprint
    table = blueprint.tokens.dims
    either_way = (table, table[::-1])  # A copy for the head may well stand transposed.
    tables = sum(1 for tensor in facts.tensors if tensor.dims in either_way)
    allowed = sum(1 for parameter in blueprint.parameters.values() if parameter.dims in either_way)
    if tables > allowed:
        what = "once, head included" if blueprint.tied else f"once, beside {blueprint.head}"
        yield finding(
            "TIED01",
            blueprint.tokens.name,
            f"the token table must be stored {what}, got {tables - allowed} more of its size",
        )
    expected = stored_bytes(blueprint, precision)
    stored = sum(tensor.size_bytes for tensor in facts.tensors)
    # A few scalars (epsilon, axes, shapes) are no parameters; they are bounded as part of the graph.
    graph_allowance = 65_536 + 32_768 * blueprint.layers
    if stored < expected * (1 - SIZE_SHARE) or stored > expected * (1 + SIZE_SHARE) + 4096:
        yield finding(
            "SIZE01",
            "",
            f"stored tensors must take {expected:,} bytes within 1 % for {metadata.precision}, got {stored:,}",
        )
    if facts.file_bytes - stored > graph_allowance:
        yield finding(
            "SIZE01", "", f"the graph must take at most {graph_allowance:,} bytes, got {facts.file_bytes - stored:,}"
        )


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
            size_bytes += precision.storage(parameter).size_bytes(*parameter.matrix, parameter.channels)
    return size_bytes


def _describe(value: ValueFacts) -> str:
    return f"{value.name} {value.dtype.lower()} {_dims(value.dims)}"


def _dims(dims: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, dims))}]"
