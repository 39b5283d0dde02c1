"""What a model returned, and the contract -> a judgement. Pure: nothing here runs a model, prints or exits."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_release.contract.activations import Output, load_contract
from model_release.contract.clauses import NOTHING_JUDGED, Judgement, Ruling, check
from model_release.contract.measures import Agreement, Deviation, softmax
from model_release.contract.measures import Array as Array
from model_release.contract.precision import FULL_PRECISION, Precision, Tolerance
from model_release.contract.tensor_names import parse_tensor_name, tensor_name

_EXACT = {"atol": 1e-4, "rtol": 1e-5}
"""Tolerance of sums and attention identities: float32 arithmetic, whatever the stored precision."""

_PART = 2**20
"""Elements compared at a time."""

_PRODUCTS = {"atol": 1e-2, "rtol": 0.3}
"""The same where one side is a product that some precisions take in integers, clipped: another order of heads shows."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a model.

    Attributes:
        ids: What it was given, `[batch, seq]`.
        outputs: What it returned, by name.
        past: Tokens before, whose keys and values it was given.
    """

    ids: Array
    outputs: Mapping[str, Array]
    past: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions that a file leaves open."""
        batch, seq = self.ids.shape
        return {"batch": batch, "seq": seq, "total": self.past + seq}

    def only(self, names: Collection[str]) -> "Run":
        """The same run with these of its outputs."""
        return replace(self, outputs={name: array for name, array in self.outputs.items() if name in names})

    def without(self, names: Collection[str]) -> "Run":
        """The same run without these of its outputs."""
        return self.only(self.outputs.keys() - names)

    def having(self, *kinds: str) -> Iterator[tuple[str, list[Array]]]:
        """The outputs of these kinds, for every layer that has them all; with them the name of the first."""
        for name in self.outputs:
            kind, layer = parse_tensor_name(name)
            names = [tensor_name(each, layer) for each in kinds]
            if kind == kinds[0] and self.outputs.keys() >= set(names):
                yield name, [self.outputs[each] for each in names]


def check_outputs(run: Run, expected: Sequence[Output]) -> Judgement:
    """All that can be said of one run alone: its shapes, and the values of what has the right shape.

    Args:
        run: The run; outputs that are not expected are not looked at.
        expected: The outputs the contract asks for.
    """
    shapes = check_shapes(run, expected)
    return shapes + check_values(run.only({output.name for output in expected} - shapes.tensors), expected)


def check_values(run: Run, expected: Sequence[Output]) -> Judgement:
    """The clauses of values, on outputs of the right shapes; what breaks one is spared the next."""
    found = check_finite(run)
    finite = run.without(found.tensors)
    found += check_rows_of_probabilities(finite, expected) + check_mask(finite, expected)
    sound = run.without(found.tensors)
    return found + check_sums(sound) + check_attention(sound, expected) + check_lens(sound, expected)


@check("RUN01", needs="an output under a name of the contract")
def check_shapes(run: Run, expected: Sequence[Output]) -> Iterator[Ruling]:
    """Judges shapes and types; IO02 speaks of outputs that are missing."""
    sizes = run.sizes
    after = f", past {run.past}" if run.past else ""
    for output in expected:
        if output.name not in run.outputs:
            continue
        array = run.outputs[output.name]
        wanted = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in output.dims)
        wrong = array.shape != wanted or array.dtype != np.float32
        at = f"at batch {sizes['batch']}, seq {sizes['seq']}{after}"
        message = f"{at} it must be float32 {wanted}, got {array.dtype} {array.shape}"
        yield output.name, message if wrong else ""


@check("FIN01", needs="an output of the contract's shape")
def check_finite(run: Run) -> Iterator[Ruling]:
    """Judges every output."""
    for name, array in run.outputs.items():
        count = array.size - int(np.isfinite(array).sum())
        yield name, f"every value must be finite, {count} of {array.size} are not" if count else ""


@check("PROB01", needs="attn_probs")
def check_rows_of_probabilities(run: Run, expected: Sequence[Output]) -> Iterator[Ruling]:
    """Judges rows of [batch, heads, seq, seq]; with sinks, which take a share, they sum to at most 1."""
    for name, (probs,) in run.having("attn_probs"):
        sums = probs.sum(axis=-1, dtype=np.float64) - 1
        off = float((np.maximum(sums, 0) if _traits(name, expected).has_sinks else np.abs(sums)).max())
        message = f"rows must sum to 1 within 1e-4, one is off by {off:.3g} (smallest value {probs.min():.3g})"
        yield name, message if off > 1e-4 or probs.min() < 0 else ""


@check("PROB02", needs="attn_probs of several positions")
def check_mask(run: Run, expected: Sequence[Output]) -> Iterator[Ruling]:
    """Judges what lies above the diagonal of [batch, heads, seq, seq], and outside a layer's window.

    A sequence of one token has nothing there.
    """
    if run.ids.shape[1] > 1:
        for name, (probs,) in run.having("attn_probs"):
            mass = float(np.triu(probs, k=1).max())
            yield name, f"no probability may lie above the diagonal, got up to {mass:.3g}" if mass > 1e-6 else ""
            window = _traits(name, expected).window
            past = float(np.tril(probs, k=-window).max(initial=0.0)) if window else 0.0
            message = f"no probability may lie outside the window of {window}, got up to {past:.3g}"
            yield name, message if past > 1e-6 else ""


@check("SUM01", needs="a sum of the contract with all its parts")
def check_sums(run: Run) -> Iterator[Ruling]:
    """Judges every sum whose total and parts are all there."""
    got = run.outputs
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
            wrong = _exceeds(difference, np.max([np.abs(part).max() for part in (total, *parts)]), **_EXACT)
            message = f"must be {' + '.join(names[1:])}, differs by up to {difference.max():.3g}"
            yield names[0], message if wrong else ""


@check("ATTN01", needs="attn_probs with attn_scores, or with v and attn_z; or head_output with attn_output")
def check_attention(run: Run, expected: Sequence[Output]) -> Iterator[Ruling]:
    """Judges probabilities by their scores, z by probabilities and values, and what heads add by their sum."""
    for name, (scores, probs) in run.having("attn_scores", "attn_probs"):
        traits = _traits(name, expected)
        rows = probs / probs.sum(axis=-1, keepdims=True) if traits.has_sinks else probs
        off = float(np.abs(softmax(_masked(scores, traits.window)) - rows).max())
        message = f"softmax of the masked scores must be the probabilities, differs by up to {off:.3g}"
        yield name, message if off > 1e-4 else ""
    for name, (z, probs, values) in run.having("attn_z", "attn_probs", "v"):
        shared = np.repeat(values.astype(np.float64), probs.shape[1] // values.shape[1], axis=1)  # Of grouped heads.
        difference = np.abs(probs.astype(np.float64) @ shared - z)
        wrong = _exceeds(difference, np.abs(values).max(), **_EXACT)
        yield name, f"must be probabilities x values, differs by up to {difference.max():.3g}" if wrong else ""
    for name, (heads, whole) in run.having("head_output", "attn_output"):
        if not _traits(name, expected).has_post_norm:
            rest = whole - heads.sum(axis=1, dtype=np.float64)  # The projection's bias, at every position.
            spread = np.abs(rest - rest[:1, :1])
            wrong = _exceeds(spread, np.abs(heads).max(), **_PRODUCTS)
            message = f"must sum to attn_output but for one vector, differs by up to {spread.max():.3g}"
            yield name, message if wrong else ""


@check("LENS01", needs="logit_lens of the last layer, and logits")
def check_lens(run: Run, expected: Sequence[Output]) -> Iterator[Ruling]:
    """Judges the last layer's lens by the logits."""
    for output in expected:
        if output.kind == "logit_lens" and output.of_last_layer and {output.name, "logits"} <= run.outputs.keys():
            logits = run.outputs["logits"]
            difference = np.abs(run.outputs[output.name] - logits)
            wrong = _exceeds(difference, np.abs(logits).max(), **_EXACT)
            yield output.name, f"must be the logits, differs by up to {difference.max():.3g}" if wrong else ""


@dataclass(frozen=True, kw_only=True)
class _Traits:
    """What of an output's layer the attention clauses depend on.

    Attributes:
        window: How many positions a query sees, itself included; 0 without a window.
    """

    window: int = 0
    has_sinks: bool = False
    has_post_norm: bool = False


def _traits(name: str, expected: Sequence[Output]) -> _Traits:
    """The traits of the layer that an output belongs to."""
    kind = next((output.of for output in expected if output.name == name), None)
    if kind is None:
        return _Traits()
    return _Traits(window=kind.window, has_sinks=kind.sinks, has_post_norm="ln_1_post" in kind.outputs)


@check("CONST01", needs="an output for several tokens")
def check_not_constant(run: Run) -> Iterator[Ruling]:
    """Judges a run of several tokens: the probabilities of one token are all 1."""
    if run.ids.shape[1] > 1:
        for name, array in run.outputs.items():
            if array.size > 1:
                constant = array.min() == array.max()
                yield name, f"values must vary, all are {array.flat[0]:.3g}" if constant else ""


@check("EMB01", needs="embedding_sum of several positions, and several tokens in the vocabulary")
def check_embedding_parts(run: Run, precision: Precision) -> Iterator[Ruling]:
    """Judges whether two sequences, each of one repeated token, differ by the same vector at every position.

    Args:
        run: Of these two sequences, `[2, seq]`.
        precision: Is named in the message.
    """
    if run.ids.shape[1] < 2 or (run.ids[0] == run.ids[1]).all():
        return
    for name, (embedding_sum,) in run.having("embedding_sum"):
        difference = embedding_sum[0].astype(np.float64) - embedding_sum[1]  # [seq, hidden]: token a - token b
        spread = np.abs(difference - difference[:1])
        wrong = _exceeds(spread, np.abs(embedding_sum).max(), **_EXACT)
        message = f"must be a token part plus a position part, they mix by {spread.max():.3g} in {precision.name}"
        yield name, message if wrong else ""


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


def _has_tokens(output: Output) -> bool:
    """Whether an output has an axis of tokens."""
    return not {"seq", "total"}.isdisjoint(output.dims)


def _part(output: Output, *, seq: slice, total: slice) -> tuple[slice, ...]:
    """An index of a part of the sequence."""
    parts = {"seq": seq, "total": total}
    return tuple(parts.get(str(dim), slice(None)) for dim in output.dims)


@check("NUM01", needs="PyTorch's outputs")
def check_reference(
    got: Mapping[str, Array], reference: Mapping[str, Array], expected: Sequence[Output], precision: Precision
) -> Iterator[Ruling]:
    """Judges every output by PyTorch's; a precision may allow a share of its elements to be further off."""
    yield from _compare_all(got, reference, expected, precision, "must equal PyTorch's")


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


@check("TOK01", needs="a released tokenizer.json")
def check_tokens(text: str, in_page: Sequence[int], expected: Sequence[int]) -> Iterator[Ruling]:
    """Judges one text."""
    wrong = list(in_page) != list(expected)
    yield "", f"{text!r} must be tokens {list(expected)} in a page too, got {list(in_page)}" if wrong else ""


@check("REL01", needs="PyTorch's outputs")
def check_deviation(measured: Deviation, precision: Precision) -> Iterator[Ruling]:
    """Judges one kind of output over all runs."""
    limit = precision.max_relative_error
    message = f"relative error must be at most {limit:g} for {precision.name}, got {measured.relative:.3g}"
    yield measured.kind, "" if measured.relative <= limit else message


def check_agreement(measured: Agreement, precision: Precision, *, vocab: int, on_text: bool) -> Judgement:
    """KL01, TOP01 and, on text, PPL01: what follows a random token says nothing of a model."""
    if vocab < 2:  # The one token is certain, whatever the logits are.
        return NOTHING_JUDGED
    found = check_divergence(measured, precision) + check_choices(measured, precision)
    if on_text:
        found += check_perplexity(measured, precision)
    return found


@check("KL01", needs="PyTorch's logits, and several tokens in the vocabulary")
def check_divergence(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the mean divergence; NaN breaks the clause."""
    limit = precision.max_mean_kl
    message = f"mean KL must be at most {limit:g} nats for {precision.name}, got {measured.mean_kl:.3g}"
    yield "logits", "" if measured.mean_kl <= limit else message


@check("TOP01", needs="PyTorch's logits, and several tokens in the vocabulary")
def check_choices(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the most likely tokens."""
    limit = precision.min_top1_agreement
    message = f"top-1 agreement must be at least {limit:.1%} for {precision.name}, got {measured.top1_or_tie:.1%}"
    yield "logits", "" if measured.top1_or_tie >= limit else message


@check("PPL01", needs="PyTorch's logits for a text, read by a tokenizer of several tokens")
def check_perplexity(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the perplexity on a text; NaN breaks the clause."""
    limit, ratio = precision.max_perplexity_ratio, measured.perplexity_ratio
    message = f"perplexity must be at most {limit:g} times PyTorch's for {precision.name}, got {ratio:.4g} times"
    yield "logits", "" if ratio <= limit else message


def _exceeds(difference: Array, scale: float, *, atol: float, rtol: float) -> bool:
    return not bool((difference <= atol + rtol * scale).all())


def _masked(scores: Array, window: int) -> Array:
    seq = scores.shape[-1]
    seen = np.tri(seq, dtype=bool)
    if window:
        seen &= ~np.tri(seq, k=-window, dtype=bool)
    masked: Array = np.where(seen, scores, -np.inf)
    return masked
