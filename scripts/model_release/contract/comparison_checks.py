"""Outputs of a run, and what they must equal: another run's, or PyTorch's -> a judgement. Pure, as `output_checks`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from model_release.contract.activations import Output, load_contract
from model_release.contract.clauses import Ruling, check
from model_release.contract.measures import Array
from model_release.contract.output_checks import Run
from model_release.contract.precision import FULL_PRECISION, Precision, Tolerance

_PART = 2**20
"""Elements compared at a time."""


@check("CAUS01", needs="an output of several positions, and several tokens in the vocabulary")
def check_causality(before: Run, after: Run, expected: Sequence[Output], precision: Precision) -> Iterator[Ruling]:
    """Judges whether two runs that share their first tokens agree on those positions, and differ in later tokens."""
    changed = (before.ids != after.ids).any(axis=0)  # [seq]
    same = int(changed.argmax())  # The first position that differs; 0 if none does.
    outputs = [output for output in expected if same and _has_tokens(output)]
    parts = {output: _part(output, seq=slice(same), total=slice(same)) for output in outputs}
    yield from _compare(
        (
            (output, after.outputs[output.name][parts[output]], before.outputs[output.name][parts[output]])
            for output in _in_both(outputs, before.outputs, after.outputs)
        ),
        precision,
        "must not see later tokens",
    )


@check("BATCH01", needs="an output of each sequence of a batch")
def check_batch_rows(
    together: Run, alone: Run, row: int, expected: Sequence[Output], precision: Precision
) -> Iterator[Ruling]:
    """Judges whether row `row` of a batch equals the run of that sequence alone."""
    outputs = [output for output in expected if output.dims[0] == "batch"]
    yield from _compare(
        (
            (output, together.outputs[output.name][row : row + 1], alone.outputs[output.name])
            for output in _in_both(outputs, together.outputs, alone.outputs)
        ),
        precision,
        "must not depend on the batch's other rows",
    )


@check("STEP01", needs="inputs for keys and values, which --cache gives")
def check_steps(whole: Run, steps: Sequence[Run], expected: Sequence[Output], precision: Precision) -> Iterator[Ruling]:
    """Judges runs of a sequence's parts, each given the keys and values of those before, by one run of it.

    Where numbers are computed in fp32 the two differ by fp32's rounding alone, however few bits are stored. Logits of
    the last position alone are compared where both have them: at the end.
    """
    exact = load_contract().precision(FULL_PRECISION) if precision.computed == FULL_PRECISION else precision
    for step in steps:
        end = step.past + step.ids.shape[1]
        is_last = end == whole.ids.shape[1]
        outputs = [
            output for output in _in_both(expected, step.outputs, whole.outputs) if is_last or _has_tokens(output)
        ]
        yield from _compare(
            (
                (
                    output,
                    step.outputs[output.name],
                    whole.outputs[output.name][_part(output, seq=slice(step.past, end), total=slice(end))],
                )
                for output in outputs
            ),
            exact,
            f"after {step.past} tokens must equal one run's",
        )


@check("TOUCH01", needs="inputs for gains and vectors, which --interventions gives, and an output before one")
def check_before_touch(
    neutral: Run, touched: Run, layer: int, head: int | None, expected: Sequence[Output]
) -> Iterator[Ruling]:
    """Judges whether what comes before a touch has the same bits, and what other heads give.

    Args:
        neutral: A run that nothing touches.
        touched: The same with one head of a layer removed, or the stream behind the layer moved.
        layer: Of the touch.
        head: That is removed; None if the stream is moved.
        expected: The outputs the contract asks for.
    """
    after = {"attn_output", "ln_1_post", "resid_mid", "mlp_output", "mlp_fc1", "mlp_up", "mlp_gelu", "ln_2_post"}
    after |= {"ln_2", "ln_2_scale", "router_logits", "expert_weights"}
    of_heads = {"attn_z", "head_output"}
    for output in _in_both(expected, neutral.outputs, touched.outputs):
        number = -1 if output.kind in ("token_embedding", "position_embedding", "embedding_sum") else output.layer
        if number is None or number > layer or (number == layer and output.kind in ("resid_post", "logit_lens")):
            continue
        before, now = neutral.outputs[output.name], touched.outputs[output.name]
        if number == layer and head is not None:
            if output.kind in after:
                continue
            if output.kind in of_heads:
                before, now = (np.delete(array, head, axis=1) for array in (before, now))
        wrong = not np.array_equal(before, now)
        touch = f"head {head} of layer {layer} is removed" if head is not None else f"layer {layer} is steered"
        yield output.name, f"must keep its bits when {touch}, it changes" if wrong else ""


@check("GAIN01", needs="inputs for gains of heads, which --interventions gives, and PyTorch's outputs")
def check_gains(
    got: Mapping[str, Array], reference: Mapping[str, Array], expected: Sequence[Output], precision: Precision
) -> Iterator[Ruling]:
    """Judges every output of a run with gains by PyTorch's."""
    yield from _compare_all(got, reference, expected, precision, "with gains of heads must equal PyTorch's")


@check("STEER01", needs="inputs for vectors to steer with, which --interventions gives, and PyTorch's outputs")
def check_steering(
    got: Mapping[str, Array], reference: Mapping[str, Array], expected: Sequence[Output], precision: Precision
) -> Iterator[Ruling]:
    """Judges every output of a run that is steered by PyTorch's."""
    yield from _compare_all(got, reference, expected, precision, "when steered must equal PyTorch's")


@check("NUM01", needs="PyTorch's outputs")
def check_reference(
    got: Mapping[str, Array], reference: Mapping[str, Array], expected: Sequence[Output], precision: Precision
) -> Iterator[Ruling]:
    """Judges every output by PyTorch's; a precision may allow a share of its elements to be further off."""
    yield from _compare_all(got, reference, expected, precision, "must equal PyTorch's")


@check("TOK01", needs="a released tokenizer.json")
def check_tokens(text: str, in_page: Sequence[int], expected: Sequence[int]) -> Iterator[Ruling]:
    """Judges one text."""
    wrong = list(in_page) != list(expected)
    yield "", f"{text!r} must be tokens {list(expected)} in a page too, got {list(in_page)}" if wrong else ""


def _has_tokens(output: Output) -> bool:
    """Whether an output has an axis of tokens."""
    return not {"seq", "total"}.isdisjoint(output.dims)


def _part(output: Output, *, seq: slice, total: slice) -> tuple[slice, ...]:
    """An index of a part of the sequence."""
    parts = {"seq": seq, "total": total}
    return tuple(parts.get(str(dim), slice(None)) for dim in output.dims)


def _compare_all(
    got: Mapping[str, Array],
    reference: Mapping[str, Array],
    expected: Sequence[Output],
    precision: Precision,
    must: str,
) -> Iterator[Ruling]:
    pairs = ((output, got[output.name], reference[output.name]) for output in _in_both(expected, got, reference))
    return _compare(pairs, precision, must, far_share=precision.max_far_share)


def _in_both(outputs: Iterable[Output], first: Mapping[str, Array], second: Mapping[str, Array]) -> Iterator[Output]:
    return (output for output in outputs if output.name in first and output.name in second)


def _compare(
    pairs: Iterable[tuple[Output, Array, Array]], precision: Precision, must: str, *, far_share: float = 0.0
) -> Iterator[Ruling]:
    """Element by element: |got - expected| <= atol + rtol x the largest |expected| of its row, but for `far_share`.

    A row is a token's vector (last axis). A map of scores or probabilities, [seq, total], counts as one
    row: its first lines hold one or two entries, whose size says nothing about the arithmetic's.
    """
    for output, got, expected in pairs:
        tolerance = precision.tolerance(output.kind)
        if got.shape != expected.shape:
            yield output.name, f"{must}, shapes differ: {got.shape} and {expected.shape}"
            continue
        is_map = output.dims[-2:] in (("seq", "seq"), ("seq", "total"))
        width = int(np.prod(got.shape[-2:] if is_map else got.shape[-1:]))
        worst, largest, far = _furthest(got.reshape(-1, width), expected.reshape(-1, width), tolerance)
        if worst is None or (far <= far_share * got.size and np.isfinite(got).all()):
            yield output.name, ""
            continue
        place = np.unravel_index(worst, got.shape)
        yield (
            output.name,
            f"{must} within atol {tolerance.atol:g} and rtol {tolerance.rtol:g} of its row ({precision.name}), "
            + (f"but for {far_share:.0%} of its elements, {far / got.size:.1%} are not: " if far_share else "")
            + f"got {got[place]:.6g} for {expected[place]:.6g} at {tuple(int(i) for i in place)}; "
            f"largest difference {largest:.3g}",
        )


def _furthest(got: Array, expected: Array, tolerance: Tolerance) -> tuple[int | None, float, int]:
    """Where [rows, width] are furthest past what a row allows, as a flat index; the largest difference; how many are.

    A part is looked at at a time: logits may be gigabytes. There is no index where every element is within its limit.
    """
    worst, excess, largest, far = None, 0.0, 0.0, 0
    step = max(1, _PART // got.shape[1])
    for start in range(0, len(got), step):
        part = expected[start : start + step]
        difference = np.abs(got[start : start + step] - part)
        limit = tolerance.atol + tolerance.rtol * np.abs(part).max(axis=-1, keepdims=True)
        largest = float(np.maximum(largest, difference.max()))
        if (difference <= limit).all():  # NaN is not.
            continue
        past = np.nan_to_num(difference - limit, nan=np.inf)
        far += int((past > 0).sum())
        if past.max() > excess:
            worst, excess = start * got.shape[1] + int(past.argmax()), float(past.max())
    return worst, largest, far
