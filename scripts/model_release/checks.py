"""Facts x contract -> findings. Pure judgement: nothing here runs a model, prints or exits.

Every check returns all it finds; an empty list means the clause holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_release.architecture import EMBEDDING, HEAD, ModelShape, is_table
from model_release.contract import Contract, Output, Precision, load_contract, parse_tensor_name, tensor_name
from model_release.measures import Agreement, Deviation, softmax
from model_release.measures import Array as Array
from model_release.metadata import ModelMetadata
from model_release.storage import CODEBOOK_ENTRIES

SIZE_SHARE = 0.01
"""SIZE01: how far stored bytes may be from the expected ones."""

_EXACT = {"atol": 1e-4, "rtol": 1e-5}
"""Tolerance of sums and attention identities: float32 arithmetic, whatever the stored precision."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken clause: its ID, the tensor concerned (or empty) and one sentence."""

    clause: str
    tensor: str
    message: str

    def __str__(self) -> str:
        return f"{self.clause} {self.tensor + ': ' if self.tensor else ''}{self.message}"


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
        findings.append(_finding("IO01", "", f"the only input must be {_describe(wanted_input)}, got {got}"))
    expected = {output.name: output for output in contract.expected_outputs(metadata.shape, metadata.selection)}
    got_names = [value.name for value in facts.outputs]
    findings += [_finding("IO02", name, "the output is missing") for name in expected if name not in got_names]
    findings += [
        _finding("IO02", name, "the output is not in the contract's set") for name in got_names if name not in expected
    ]
    for value in facts.outputs:
        if value.name not in expected:
            continue
        if value.dtype != "FLOAT":
            findings.append(_finding("IO03", value.name, f"dtype must be float32, got {value.dtype.lower()}"))
        if value.dims != expected[value.name].dims:
            findings.append(
                _finding(
                    "IO04",
                    value.name,
                    f"declared shape must be {_dims(expected[value.name].dims)}, got {_dims(value.dims)}",
                )
            )
    findings += _check_graph(facts, contract)
    findings += _check_storage(facts, metadata)
    return findings


def _check_version(metadata: ModelMetadata, contract: Contract) -> Iterator[Finding]:
    if metadata.contract_version.split(".")[0] != contract.version.split(".")[0]:
        yield _finding(
            "META01",
            "",
            f"contract version must be {contract.version.split('.')[0]}.x, got {metadata.contract_version}",
        )


def _check_graph(facts: ModelFacts, contract: Contract) -> Iterator[Finding]:
    if not contract.min_opset <= facts.opset <= contract.max_opset:
        yield _finding(
            "GRAPH01", "", f"opset must be from {contract.min_opset} to {contract.max_opset}, got {facts.opset}"
        )
    foreign = [domain for domain in facts.domains if domain]
    if foreign:
        yield _finding("GRAPH01", "", f"operators must be of the standard ONNX domain, got {', '.join(foreign)}")
    if facts.checker_problem:
        yield _finding("GRAPH01", "", f"the ONNX checker must accept the file, it says: {facts.checker_problem}")


def _check_storage(facts: ModelFacts, metadata: ModelMetadata) -> Iterator[Finding]:
    """TIED01 and SIZE01, from tensors' shapes and bytes; constants inside the graph count as well."""
    precision = load_contract().precision(metadata.precision)
    shapes = list(metadata.shape.parameters().values())
    table = metadata.shape.parameters()[EMBEDDING]
    either_way = (table, table[::-1])  # A copy for the head may well stand transposed.
    tables = sum(1 for tensor in facts.tensors if tensor.dims in either_way)
    allowed = sum(1 for dims in shapes if dims in either_way)
    if tables > allowed:
        what = "once, head included" if metadata.shape.tied else f"once, beside {HEAD}"
        yield _finding(
            "TIED01", EMBEDDING, f"the token table must be stored {what}, got {tables - allowed} more of its size"
        )
    expected = stored_bytes(metadata.shape, precision)
    stored = sum(tensor.size_bytes for tensor in facts.tensors)
    # A few scalars (epsilon, axes, shapes) are no parameters; they are bounded as part of the graph.
    graph_allowance = 65_536 + 32_768 * metadata.shape.layers
    if stored < expected * (1 - SIZE_SHARE) or stored > expected * (1 + SIZE_SHARE) + 4096:
        yield _finding(
            "SIZE01",
            "",
            f"stored tensors must take {expected:,} bytes within 1 % for {metadata.precision}, got {stored:,}",
        )
    if facts.file_bytes - stored > graph_allowance:
        yield _finding(
            "SIZE01", "", f"the graph must take at most {graph_allowance:,} bytes, got {facts.file_bytes - stored:,}"
        )


def stored_bytes(shape: ModelShape, precision: Precision) -> int:
    """Bytes that a model's unique parameters take in a precision, with scales and codebooks."""
    codebooks = {storage.weights for storage in (precision.table, precision.matrix) if storage.is_codebook}
    size_bytes = sum(CODEBOOK_ENTRIES * weights * 4 for weights in codebooks)
    for name, dims in shape.parameters().items():
        if len(dims) == 1:
            size_bytes += dims[0] * precision.vector_bits // 8
        else:
            channels = dims[0] if is_table(name) else dims[1]
            size_bytes += precision.storage(name).size_bytes(dims[0], dims[1], channels)
    return size_bytes


def check_outputs(got: Mapping[str, Array], expected: tuple[Output, ...], batch: int, seq: int) -> list[Finding]:
    """RUN01, FIN01, PROB01, PROB02, SUM01 and ATTN01 on the outputs of one run.

    Args:
        got: Name -> array.
        expected: The outputs the contract asks for.
        batch: Sequences of the run.
        seq: Tokens a sequence.
    """
    findings: list[Finding] = []
    sizes = {"batch": batch, "seq": seq}
    for output in expected:
        array = got.get(output.name)
        if array is None:
            continue  # IO02 has said so.
        wanted = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in output.dims)
        if array.shape != wanted or array.dtype != np.float32:
            findings.append(
                _finding(
                    "RUN01",
                    output.name,
                    f"at batch {batch}, seq {seq} it must be float32 {wanted}, got {array.dtype} {array.shape}",
                )
            )
        elif not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            findings.append(
                _finding("FIN01", output.name, f"every value must be finite, {count} of {array.size} are not")
            )
        elif output.kind == "attn_probs":
            findings += _check_probabilities(output.name, array)
    broken = {finding.tensor for finding in findings}
    sound = {name: array for name, array in got.items() if name not in broken}
    findings += _check_sums(sound)
    findings += _check_attention(sound)
    return findings


def _check_probabilities(name: str, probs: Array) -> Iterator[Finding]:
    """PROB01 and PROB02 on [batch, heads, seq, seq]."""
    off = float(np.abs(probs.sum(axis=-1, dtype=np.float64) - 1).max())
    if off > 1e-4 or probs.min() < 0:
        yield _finding(
            "PROB01",
            name,
            f"rows must sum to 1 within 1e-4, one is off by {off:.3g} (smallest value {probs.min():.3g})",
        )
    mass = float(np.triu(probs, k=1).max(initial=0.0))
    if mass > 1e-6:
        yield _finding("PROB02", name, f"no probability may lie above the diagonal, got up to {mass:.3g}")


def _check_sums(got: Mapping[str, Array]) -> Iterator[Finding]:
    """SUM01, for every sum whose total and parts are all there."""
    layers = sorted({layer for layer in (parse_tensor_name(name)[1] for name in got) if layer is not None})
    for rule in load_contract().sums:
        for layer in layers if "{L" in rule.total else [0]:
            names = [
                text.replace("{L+1}", str(layer + 1)).replace("{L}", str(layer)) for text in (rule.total, *rule.parts)
            ]
            if not all(name in got for name in names):
                continue
            total, *parts = (got[name].astype(np.float64) for name in names)
            difference = np.abs(total - sum(parts))
            if _exceeds(difference, np.max([np.abs(part).max() for part in (total, *parts)]), **_EXACT):
                yield _finding(
                    "SUM01", names[0], f"must be {' + '.join(names[1:])}, differs by up to {difference.max():.3g}"
                )


def _check_attention(got: Mapping[str, Array]) -> Iterator[Finding]:
    """ATTN01, where scores, probabilities, values and z are there."""
    for name, scores in got.items():
        kind, layer = parse_tensor_name(name)
        probs = got.get(tensor_name("attn_probs", layer))
        if layer is None or probs is None:
            continue
        if kind == "attn_scores":
            difference = float(np.abs(softmax(_masked(scores)) - probs).max())
            if difference > 1e-4:
                yield _finding(
                    "ATTN01",
                    name,
                    f"softmax of the masked scores must be the probabilities, differs by up to {difference:.3g}",
                )
        if kind == "attn_z" and (values := got.get(tensor_name("v", layer))) is not None:
            products = probs.astype(np.float64) @ values.astype(np.float64)
            if _exceeds(np.abs(products - scores), np.abs(values).max(), **_EXACT):
                yield _finding(
                    "ATTN01",
                    name,
                    f"must be probabilities x values, differs by up to {np.abs(products - scores).max():.3g}",
                )


def check_not_constant(got: Mapping[str, Array]) -> list[Finding]:
    """CONST01, on a run of several tokens."""
    return [
        _finding("CONST01", name, f"values must vary, all are {array.flat[0]:.3g}")
        for name, array in got.items()
        if array.size > 1 and array.min() == array.max()
    ]


def check_embedding_parts(embedding_sum: Array, precision: Precision) -> list[Finding]:
    """EMB01: two sequences of one repeated token each differ by the same vector at every position.

    Args:
        embedding_sum: `[2, seq, hidden]`, from the run of those two sequences.
        precision: Gives the tolerance.
    """
    difference = embedding_sum[0].astype(np.float64) - embedding_sum[1]  # [seq, hidden]: token a - token b
    spread = np.abs(difference - difference[:1])
    if _exceeds(spread, np.abs(embedding_sum).max(), **_EXACT):
        return [
            _finding(
                "EMB01",
                "embedding_sum",
                f"must be a token part plus a position part, they mix by {spread.max():.3g} in {precision.name}",
            )
        ]
    return []


def check_causality(
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    same: int,
    expected: tuple[Output, ...],
    precision: Precision,
) -> list[Finding]:
    """CAUS01: two runs that share their first `same` tokens agree on those positions."""
    findings: list[Finding] = []
    for output in expected:
        if output.name not in before or output.name not in after or "seq" not in output.dims:
            continue
        part = tuple(slice(same) if dim == "seq" else slice(None) for dim in output.dims)
        findings += _check_close(
            "CAUS01",
            output,
            after[output.name][part],
            before[output.name][part],
            precision,
            "must not see later tokens",
        )
    return findings


def check_batch_rows(
    together: Mapping[str, Array],
    alone: Mapping[str, Array],
    row: int,
    expected: tuple[Output, ...],
    precision: Precision,
) -> list[Finding]:
    """BATCH01: row `row` of a batch equals the run of that sequence alone."""
    findings: list[Finding] = []
    for output in expected:
        if output.name not in together or output.name not in alone or output.dims[0] != "batch":
            continue
        findings += _check_close(
            "BATCH01",
            output,
            together[output.name][row : row + 1],
            alone[output.name],
            precision,
            "must not depend on the batch's other rows",
        )
    return findings


def check_reference(
    got: Mapping[str, Array], reference: Mapping[str, Array], expected: tuple[Output, ...], precision: Precision
) -> list[Finding]:
    """NUM01: every output against PyTorch's."""
    return [
        finding
        for output in expected
        if output.name in got and output.name in reference
        for finding in _check_close(
            "NUM01", output, got[output.name], reference[output.name], precision, "must equal PyTorch's"
        )
    ]


def _check_close(
    clause: str, output: Output, got: Array, expected: Array, precision: Precision, must: str
) -> Iterator[Finding]:
    """Element by element: |got - expected| <= atol + rtol x the largest |expected| of its row.

    A row is a token's vector (last axis). A map of scores or probabilities, [seq, seq], counts as one
    row: its first lines hold one or two entries, whose size says nothing about the arithmetic's.
    """
    tolerance = precision.tolerance(output.kind)
    if got.shape != expected.shape:
        yield _finding(clause, output.name, f"{must}, shapes differ: {got.shape} and {expected.shape}")
        return
    if got.size == 0:
        return
    difference = np.abs(got - expected)
    row = (-2, -1) if output.dims[-2:] == ("seq", "seq") else (-1,)
    limit = tolerance.atol + tolerance.rtol * np.abs(expected).max(axis=row, keepdims=True)
    if not (difference <= limit).all():  # not(<=) catches NaN too
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(difference - limit, nan=np.inf))), difference.shape)
        yield _finding(
            clause,
            output.name,
            f"{must} within atol {tolerance.atol:g} and rtol {tolerance.rtol:g} of its row ({precision.name}), "
            f"got {got[worst]:.6g} for {expected[worst]:.6g} at {tuple(int(i) for i in worst)}; "
            f"largest difference {difference.max():.3g}",
        )


def check_tokens(text: str, in_page: Sequence[int], expected: Sequence[int]) -> list[Finding]:
    """TOK01, on one text."""
    if list(in_page) == list(expected):
        return []
    return [_finding("TOK01", "", f"{text!r} must be tokens {list(expected)} in a page too, got {list(in_page)}")]


def check_deviation(measured: Deviation, precision: Precision) -> list[Finding]:
    """REL01."""
    if measured.relative <= precision.max_relative_error:
        return []
    return [
        _finding(
            "REL01",
            measured.kind,
            f"relative error must be at most {precision.max_relative_error:g} for {precision.name}, "
            f"got {measured.relative:.3g}",
        )
    ]


def check_agreement(measured: Agreement, precision: Precision, *, on_text: bool) -> list[Finding]:
    """KL01, TOP01 and, on text, PPL01: what follows a random token says nothing of a model."""
    findings = []
    if not measured.mean_kl <= precision.max_mean_kl:
        findings.append(
            _finding(
                "KL01",
                "logits",
                f"mean KL must be at most {precision.max_mean_kl:g} nats for {precision.name}, "
                f"got {measured.mean_kl:.3g}",
            )
        )
    if not measured.top1_or_tie >= precision.min_top1_agreement:
        findings.append(
            _finding(
                "TOP01",
                "logits",
                f"top-1 agreement must be at least {precision.min_top1_agreement:.1%} for {precision.name}, "
                f"got {measured.top1_or_tie:.1%}",
            )
        )
    if on_text and not measured.perplexity_ratio <= precision.max_perplexity_ratio:
        findings.append(
            _finding(
                "PPL01",
                "logits",
                f"perplexity must be at most {precision.max_perplexity_ratio:g} times PyTorch's for {precision.name}, "
                f"got {measured.perplexity_ratio:.4g} times",
            )
        )
    return findings


def _exceeds(difference: Array, scale: float, *, atol: float, rtol: float) -> bool:
    return not bool((difference <= atol + rtol * scale).all())


def _masked(scores: Array) -> Array:
    seq = scores.shape[-1]
    masked: Array = np.where(np.tri(seq, dtype=bool), scores, -np.inf)
    return masked


def _finding(clause: str, tensor: str, message: str) -> Finding:
    if clause not in load_contract().clauses:
        raise KeyError(clause)
    return Finding(clause=clause, tensor=tensor, message=message)


def _describe(value: ValueFacts) -> str:
    return f"{value.name} {value.dtype.lower()} {_dims(value.dims)}"


def _dims(dims: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, dims))}]"
