"""What a model returned x contract -> findings. Pure judgement: nothing here runs a model, prints or exits.

Every check returns all it finds; an empty list means the clause holds.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from model_release.contract.activations import (
    Output,
    Precision,
    load_contract,
    parse_tensor_name,
    tensor_name,
)
from model_release.contract.clauses import Finding, finding
from model_release.contract.measures import Agreement, Deviation, softmax
from model_release.contract.measures import Array as Array

_EXACT = {"atol": 1e-4, "rtol": 1e-5}
"""Tolerance of sums and attention identities: float32 arithmetic, whatever the stored precision."""

_PRODUCTS = {"atol": 1e-2, "rtol": 0.3}
"""The same where one side is a product that some precisions take in integers, clipped: another order of heads shows."""


def check_outputs(got: Mapping[str, Array], expected: tuple[Output, ...], batch: int, seq: int) -> list[Finding]:
    """RUN01, FIN01, PROB01, PROB02, SUM01, ATTN01 and LENS01 on the outputs of one run.

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
                finding(
                    "RUN01",
                    output.name,
                    f"at batch {batch}, seq {seq} it must be float32 {wanted}, got {array.dtype} {array.shape}",
                )
            )
        elif not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            findings.append(
                finding("FIN01", output.name, f"every value must be finite, {count} of {array.size} are not")
            )
        elif output.kind == "attn_probs":
            findings += _check_probabilities(output, array)
    broken = {finding.tensor for finding in findings}
    sound = {name: array for name, array in got.items() if name not in broken}
    findings += _check_sums(sound)
    findings += _check_attention(sound, expected)
    findings += _check_lens(sound, expected)
    return findings


def _check_probabilities(output: Output, probs: Array) -> Iterator[Finding]:
    """PROB01 and PROB02 on [batch, heads, seq, seq]."""
    name, (window, has_sinks, _) = output.name, _traits(output)
    sums = probs.sum(axis=-1, dtype=np.float64) - 1
    off = float((np.maximum(sums, 0) if has_sinks else np.abs(sums)).max())
    if off > 1e-4 or probs.min() < 0:
        yield finding(
            "PROB01",
            name,
            f"rows must sum to 1 within 1e-4, one is off by {off:.3g} (smallest value {probs.min():.3g})",
        )
    mass = float(np.triu(probs, k=1).max(initial=0.0))
    if mass > 1e-6:
        yield finding("PROB02", name, f"no probability may lie above the diagonal, got up to {mass:.3g}")
    past = float(np.tril(probs, k=-window).max(initial=0.0)) if window else 0.0
    if past > 1e-6:
        yield finding("PROB02", name, f"no probability may lie outside the window of {window}, got up to {past:.3g}")


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
                yield finding(
                    "SUM01", names[0], f"must be {' + '.join(names[1:])}, differs by up to {difference.max():.3g}"
                )


def _check_attention(got: Mapping[str, Array], expected: tuple[Output, ...]) -> Iterator[Finding]:
    """ATTN01, where scores, probabilities, values and z are there, or what heads add and their sum."""
    for output in expected:
        name, layer = output.name, output.layer
        if layer is None or name not in got:
            continue
        window, has_sinks, has_post_norm = _traits(output)
        probs, values = got.get(tensor_name("attn_probs", layer)), got.get(tensor_name("v", layer))
        if output.kind == "attn_scores" and probs is not None:
            rows = probs / probs.sum(axis=-1, keepdims=True) if has_sinks else probs
            difference = float(np.abs(softmax(_masked(got[name], window)) - rows).max())
            if difference > 1e-4:
                yield finding(
                    "ATTN01",
                    name,
                    f"softmax of the masked scores must be the probabilities, differs by up to {difference:.3g}",
                )
        if output.kind == "attn_z" and probs is not None and values is not None:
            shared = np.repeat(values.astype(np.float64), probs.shape[1] // values.shape[1], axis=1)
            products = probs.astype(np.float64) @ shared
            if _exceeds(np.abs(products - got[name]), np.abs(values).max(), **_EXACT):
                yield finding(
                    "ATTN01",
                    name,
                    f"must be probabilities x values, differs by up to {np.abs(products - got[name]).max():.3g}",
                )
        whole = got.get(tensor_name("attn_output", layer))
        if output.kind == "head_output" and whole is not None and not has_post_norm:
            rest = whole - got[name].sum(axis=1, dtype=np.float64)  # The projection's bias, at every position.
            spread = np.abs(rest - rest[:1, :1])
            if _exceeds(spread, np.abs(got[name]).max(), **_PRODUCTS):
                yield finding(
                    "ATTN01",
                    name,
                    f"must sum to attn_output but for one vector, differs by up to {spread.max():.3g}",
                )


def _traits(output: Output) -> tuple[int, bool, bool]:
    """Of an output's layer: its window (0 without), whether it has sinks, and a norm behind attention."""
    return (output.of.window, output.of.sinks, "ln_1_post" in output.of.outputs) if output.of else (0, False, False)


def _check_lens(got: Mapping[str, Array], expected: tuple[Output, ...]) -> Iterator[Finding]:
    """LENS01, where the last layer's lens is there."""
    for output in expected:
        if output.kind != "logit_lens" or not output.of_last_layer or not {output.name, "logits"} <= got.keys():
            continue
        difference = np.abs(got[output.name] - got["logits"])
        if _exceeds(difference, np.abs(got["logits"]).max(), **_EXACT):
            yield finding("LENS01", output.name, f"must be the logits, differs by up to {difference.max():.3g}")


def check_not_constant(got: Mapping[str, Array]) -> list[Finding]:
    """CONST01, on a run of several tokens."""
    return [
        finding("CONST01", name, f"values must vary, all are {array.flat[0]:.3g}")
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
            finding(
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
        yield finding(clause, output.name, f"{must}, shapes differ: {got.shape} and {expected.shape}")
        return
    if got.size == 0:
        return
    difference = np.abs(got - expected)
    row = (-2, -1) if output.dims[-2:] == ("seq", "seq") else (-1,)
    limit = tolerance.atol + tolerance.rtol * np.abs(expected).max(axis=row, keepdims=True)
    if not (difference <= limit).all():  # not(<=) catches NaN too
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(difference - limit, nan=np.inf))), difference.shape)
        yield finding(
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
    return [finding("TOK01", "", f"{text!r} must be tokens {list(expected)} in a page too, got {list(in_page)}")]


def check_deviation(measured: Deviation, precision: Precision) -> list[Finding]:
    """REL01."""
    if measured.relative <= precision.max_relative_error:
        return []
    return [
        finding(
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
            finding(
                "KL01",
                "logits",
                f"mean KL must be at most {precision.max_mean_kl:g} nats for {precision.name}, "
                f"got {measured.mean_kl:.3g}",
            )
        )
    if not measured.top1_or_tie >= precision.min_top1_agreement:
        findings.append(
            finding(
                "TOP01",
                "logits",
                f"top-1 agreement must be at least {precision.min_top1_agreement:.1%} for {precision.name}, "
                f"got {measured.top1_or_tie:.1%}",
            )
        )
    if on_text and not measured.perplexity_ratio <= precision.max_perplexity_ratio:
        findings.append(
            finding(
                "PPL01",
                "logits",
                f"perplexity must be at most {precision.max_perplexity_ratio:g} times PyTorch's for {precision.name}, "
                f"got {measured.perplexity_ratio:.4g} times",
            )
        )
    return findings


def _exceeds(difference: Array, scale: float, *, atol: float, rtol: float) -> bool:
    return not bool((difference <= atol + rtol * scale).all())


def _masked(scores: Array, window: int) -> Array:
    seq = scores.shape[-1]
    seen = np.tri(seq, dtype=bool)
    if window:
        seen &= ~np.tri(seq, k=-window, dtype=bool)
    masked: Array = np.where(seen, scores, -np.inf)
    return masked
