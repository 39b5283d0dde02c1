"""What one run of a model returned, and the contract -> a judgement. Pure: nothing here runs, prints or exits."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_release.contract.activations import Output, load_contract
from model_release.contract.clauses import Judgement, Ruling, check
from model_release.contract.measures import Array, softmax
from model_release.contract.precision import Precision
from model_release.contract.tensor_names import parse_tensor_name, tensor_name

_EXACT = {"atol": 1e-4, "rtol": 1e-5}
"""Tolerance of sums and attention identities: float32 arithmetic, whatever the stored precision."""
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


def _exceeds(difference: Array, scale: float, *, atol: float, rtol: float) -> bool:
    return not bool((difference <= atol + rtol * scale).all())


def _masked(scores: Array, window: int) -> Array:
    seq = scores.shape[-1]
    seen = np.tri(seq, dtype=bool)
    if window:
        seen &= ~np.tri(seq, k=-window, dtype=bool)
    masked: Array = np.where(seen, scores, -np.inf)
    return masked
