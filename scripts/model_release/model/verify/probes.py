"""The runs of one verification: what is run, and in which order. The checks of the contract judge what comes back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from model_release.contract import comparison_checks, figure_checks, output_checks
from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.clauses import NOTHING_JUDGED, broken
from model_release.contract.measures import (
    Agreement,
    Array,
    Comparison,
    Deviation,
    agreement,
    compare,
    deviation,
    mean_agreement,
)
from model_release.contract.metadata import ModelMetadata
from model_release.contract.output_checks import Run
from model_release.contract.selection import Selection
from model_release.contract.tensor_names import parse_tensor_name, tensor_name
from model_release.model.onnx_files.session import RunError, Session

SEQUENCE_LENGTHS = (1, 2, 7)
"""Tokens of the probes, besides the model's longest sequence."""


BATCH = 3


STEPPED_TOKENS = 201
"""Tokens of a sequence that is run in parts; more where a layer's window is longer."""


_QUALITY_WINDOWS = 16


QUALITY_TOKENS = 128


def cuts_of(tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two ways to cut a sequence: few and many tokens after few and many, one alone at first and at last.

    >>> cuts_of(201)
    ((5, 1, 190, 1, 4), (1, 2, 100, 97, 1))
    >>> cuts_of(3)
    ((1, 1, 1), (1, 1, 1))
    """
    if tokens < 12:
        return (1,) * tokens, (1,) * tokens
    return (5, 1, tokens - 11, 1, 4), (1, 2, tokens // 2, tokens - tokens // 2 - 4, 1)


def touch_of(blueprint: Blueprint) -> tuple[Array, Array]:
    """Gains `[layers, heads]`, one head of each layer removed, and vectors `[layers, hidden]` to steer with.

    Which head is removed differs from layer to layer, so that a row of another layer shows.
    """
    layers = range(blueprint.layers)
    gain = np.ones((blueprint.layers, blueprint.heads), np.float32)
    for layer in layers:
        gain[layer, (layer + 1) % blueprint.layer(layer).heads] = 0
    steering = np.random.default_rng(2).normal(size=(blueprint.layers, blueprint.hidden))
    return gain, steering.astype(np.float32)


def past_of(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The keys and values that a run returned, as the next one takes them."""
    found = {}
    for name, array in outputs.items():
        kind, layer = parse_tensor_name(name)
        if kind in ("present_key", "present_value"):
            found[tensor_name(kind.replace("present", "past"), layer)] = array
    return found


class PyTorchModel(Protocol):
    """What verification needs of a reference; `reference.Reference` is one."""

    def run(
        self,
        input_ids: Array,
        outputs: Sequence[Output],
        *,
        last_logits: bool,
        touch: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Runs `[batch, seq]` ids, touched by `head_gain` and `steering` if given; returns the outputs by name."""


@dataclass(frozen=True, kw_only=True)
class OutputRow:
    """An output as the dummy run returned it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Probes:
    """The runs of one verification, and what they showed."""

    def __init__(
        self,
        session: Session,
        metadata: ModelMetadata,
        reference: PyTorchModel | None,
        text_ids: Sequence[int],
        progress: Callable[[str], None],
    ) -> None:
        contract = load_contract()
        self._session, self._reference, self._text_ids, self._progress = session, reference, text_ids, progress
        self._blueprint, self._selection = metadata.blueprint, metadata.selection
        self._precision = contract.precision(metadata.precision).in_model(metadata.blueprint)
        self._expected = contract.expected_outputs(metadata.blueprint, metadata.selection)
        self._names = [output.name for output in self._expected if output.name in session.output_names]
        self._random = np.random.default_rng(0)
        self.judgement = NOTHING_JUDGED
        self.rows: tuple[OutputRow, ...] = ()
        self.deviations: tuple[Deviation, ...] = ()
        self.by_output: dict[str, Deviation] = {}
        self._comparisons: dict[Output, Comparison] = {}
        self.agreement: Agreement | None = None
        self.on_text = False

    def run_all(self) -> None:
        """Runs every probe; a run that fails is a finding, and the others go on."""
        if not self._names:
            return  # IO02 has said so.
        longest = self._blueprint.context
        lengths = sorted({*(length for length in SEQUENCE_LENGTHS if length <= longest), longest})
        steps: list[tuple[str, Callable[[], None]]] = [
            (f"batch 1, seq {length}", partial(self._probe_length, length)) for length in lengths
        ]
        short = min(7, longest)
        steps.append((f"batch {BATCH}, seq {short}", lambda: self._probe_batch(short)))
        if self._blueprint.vocab > 1:
            steps.append(("later tokens changed", lambda: self._probe_causality(min(16, longest))))
            steps.append(("repeated tokens", lambda: self._probe_embedding(short)))
        if self._selection.cache:
            for batch, cuts in zip((1, BATCH), cuts_of(self._stepped_tokens()), strict=True):
                shown = "+".join(map(str, cuts[:6])) + ("+…" if len(cuts) > 6 else "")
                steps.append((f"batch {batch}, in steps of {shown}", partial(self._probe_steps, batch, cuts)))
        if self._selection.interventions:
            steps.append(("heads removed, streams steered", lambda: self._probe_touch(short)))
        if self._reference is not None:
            steps.append(("next-token agreement with PyTorch", self._measure_agreement))
        for name, step in steps:
            self._progress(name)
            try:
                with np.errstate(all="ignore"):  # What is not finite is a finding, not a warning.
                    step()
            except RunError as failure:
                self.judgement += broken("RUN01", str(failure))
        self._sum_up()

    def _ids(self, batch: int, seq: int) -> Array:
        return self._random.integers(0, self._blueprint.vocab, size=(batch, seq), dtype=np.int64)

    def _run(self, ids: Array, names: Sequence[str]) -> Run:
        return Run(ids=ids, outputs=self._session.run(ids, names))

    def _fitting(self, run: Run) -> Run:
        """Judges shapes and types, and leaves out what has wrong ones: no other check can read it."""
        shapes = output_checks.check_shapes(run, self._expected)
        self.judgement += shapes
        return run.without(shapes.tensors)

    def _probe_length(self, length: int) -> None:
        run = self._run(self._ids(1, length), self._names)
        fitting = self._judge(run)
        if length == min(7, self._blueprint.context):
            self.rows = tuple(
                OutputRow(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in run.outputs.items()
            )
        if length == self._blueprint.context:
            self.judgement += output_checks.check_not_constant(fitting)

    def _probe_batch(self, length: int) -> None:
        ids = self._ids(BATCH, length)
        together = self._judge(self._run(ids, self._names))
        for row in range(BATCH):
            alone = self._fitting(self._run(ids[row : row + 1], self._names))
            self.judgement += comparison_checks.check_batch_rows(together, alone, row, self._expected, self._precision)

    def _probe_causality(self, length: int) -> None:
        if length < 2:
            return
        ids = self._ids(1, length)
        changed = ids.copy()
        changed[:, length // 2 :] = (changed[:, length // 2 :] + 1) % self._blueprint.vocab
        before, after = (self._fitting(self._run(each, self._names)) for each in (ids, changed))
        self.judgement += comparison_checks.check_causality(before, after, self._expected, self._precision)

    def _probe_embedding(self, length: int) -> None:
        if "embedding_sum" not in self._names:
            return
        ids = np.stack([np.zeros(length, np.int64), np.full(length, self._blueprint.vocab - 1, np.int64)])
        run = self._fitting(self._run(ids, ["embedding_sum"]))
        self.judgement += output_checks.check_embedding_parts(run, self._precision)

    def _stepped_tokens(self) -> int:
        """As many as any window that a sequence can fill, and some that fall out of it."""
        windows = [kind.window + 12 for kind in self._blueprint.kinds.values() if kind.window < self._blueprint.context]
        return min(self._blueprint.context, max(STEPPED_TOKENS, *windows, 0))

    def _probe_steps(self, batch: int, cuts: Sequence[int]) -> None:
        ids = self._ids(batch, sum(cuts))
        whole = self._fitting(self._run(ids, self._names))
        steps, past, start = [], None, 0
        for cut in cuts:
            part = ids[:, start : start + cut]
            outputs = self._session.run(part, self._names, past=past)
            steps.append(self._fitting(Run(ids=part, outputs=outputs, past=start)))
            past, start = past_of(outputs), start + cut
        self.judgement += comparison_checks.check_steps(whole, steps, self._expected, self._precision)

    def _probe_touch(self, length: int) -> None:
        """One touch of the middle layer at a time, judged by its neighbours; then of all layers, judged by PyTorch."""
        ids = np.random.default_rng(1).integers(0, self._blueprint.vocab, size=(2, length), dtype=np.int64)
        gain, steering = touch_of(self._blueprint)
        neutral = self._fitting(self._run(ids, self._names))
        layer = self._blueprint.layers // 2
        head = int(gain[layer].argmin())
        for touch, removed in (
            ({"head_gain": np.where(np.arange(len(gain))[:, None] == layer, gain, 1).astype(np.float32)}, head),
            ({"steering": np.where(np.arange(len(gain))[:, None] == layer, steering, 0).astype(np.float32)}, None),
        ):
            run = self._fitting(Run(ids=ids, outputs=self._session.run(ids, self._names, touch=touch)))
            self.judgement += comparison_checks.check_before_touch(neutral, run, layer, removed, self._expected)
        if self._reference is None:
            return
        last = self._selection.logits == "last"
        every = Selection(layers=tuple(range(self._blueprint.layers)), activations=("resid_post",))
        streams = [row for row in load_contract().expected_outputs(self._blueprint, every) if row.kind == "resid_post"]
        seen = self._reference.run(ids, streams, last_logits=last)
        # A fourth of what each channel is wont to be: what is forgotten shows, and the model stays what it is.
        steering *= np.stack([np.sqrt(np.square(stream).mean(axis=(0, 1))) for stream in seen.values()]) / 4
        for touch, check in (
            ({"head_gain": gain}, comparison_checks.check_gains),
            ({"steering": steering}, comparison_checks.check_steering),
        ):
            run = self._fitting(Run(ids=ids, outputs=self._session.run(ids, self._names, touch=touch)))
            expected = self._reference.run(ids, self._expected, last_logits=last, touch=touch)
            self.judgement += check(run.outputs, expected, self._expected, self._precision)

    def _judge(self, run: Run) -> Run:
        """Judges the outputs, against PyTorch's too where there is a reference; returns the fitting ones."""
        run = self._fitting(run)
        self.judgement += output_checks.check_values(run, self._expected)
        if self._reference is not None:
            expected = self._reference.run(run.ids, self._expected, last_logits=self._selection.logits == "last")
            self.judgement += comparison_checks.check_reference(run.outputs, expected, self._expected, self._precision)
            for output in self._expected:
                if output.name in run.outputs:
                    comparison = compare(run.outputs[output.name], expected[output.name])
                    known = self._comparisons.get(output)
                    self._comparisons[output] = comparison if known is None else known + comparison
        return run

    def _sum_up(self) -> None:
        """REL01, kind by kind, once every probe has run."""
        kinds = dict.fromkeys(output.kind for output in self._comparisons)
        self.deviations = tuple(
            deviation(kind, (item for output, item in self._comparisons.items() if output.kind == kind))
            for kind in kinds
        )
        self.by_output = {output.name: deviation(output.kind, [item]) for output, item in self._comparisons.items()}
        for measured in self.deviations:
            self.judgement += figure_checks.check_deviation(measured, self._precision)

    def _measure_agreement(self) -> None:
        logits = [output for output in self._expected if output.kind == "logits" and output.name in self._names]
        if self._reference is None or not logits:
            return
        parts = []
        windows, self.on_text = self._windows()
        for window in windows:
            ids, following = window[:, :-1], window[:, 1:]
            run = self._fitting(self._run(ids, ["logits"]))
            if not run.outputs:
                return  # RUN01 has said so.
            expected = self._reference.run(ids, logits, last_logits=self._selection.logits == "last")["logits"]
            got = run.outputs["logits"]
            parts.append(agreement(got, expected, following[:, -got.shape[1] :]))
        self.agreement = mean_agreement(parts)
        self.judgement += figure_checks.check_agreement(
            self.agreement, self._precision, vocab=self._blueprint.vocab, on_text=self.on_text
        )

    def _windows(self) -> tuple[list[Array], bool]:
        """Inputs of [1, tokens] and the token that follows: windows of the text, evenly spread, or random ids."""
        tokens = min(QUALITY_TOKENS, self._blueprint.context)
        starts = range(0, len(self._text_ids) - tokens, tokens)
        if not starts:
            return [self._ids(1, tokens + 1) for _ in range(_QUALITY_WINDOWS)], False
        step = max(1, len(starts) // _QUALITY_WINDOWS)
        return [
            np.array([self._text_ids[start : start + tokens + 1]], dtype=np.int64)
            for start in starts[::step][:_QUALITY_WINDOWS]
        ], True
