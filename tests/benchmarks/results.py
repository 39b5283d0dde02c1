"""What was measured, as plain values; a part that was not asked for is empty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from measure import Measurements, Usage


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file as it is stored."""

    size_bytes: int
    nodes: int
    opset: int


@dataclass(frozen=True, kw_only=True)
class Session:
    """One process that created a session and ran it.

    Attributes:
        usage: What the whole process cost.
        create_s: Creating the session.
        create_peak_bytes: Resident memory of the process until then, at most.
        run_ms: Tokens of the input -> median run.
        logits: Samples of the last position's logits.
    """

    usage: Usage
    create_s: float
    create_peak_bytes: int
    run_ms: Mapping[int, float]
    logits: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files run alternately in one process.

    Attributes:
        ratios: Tokens of the input -> median of `file` ÷ `base`.
    """

    file: str
    base: str
    threads: int
    ratios: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class ActivationCost:
    """Exporting some kinds of activations, against logits only.

    Attributes:
        kinds: As `--activations` takes them.
        layers: `last` or `all`.
        added_bytes: To the file.
        returned_bytes: By one run of the longest input.
        ratios: Tokens of the input -> run ÷ run with logits only.
    """

    kinds: str
    layers: str
    added_bytes: int
    returned_bytes: int
    ratios: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """A step of one token with the keys and values before it, against a run of the whole sequence without.

    Attributes:
        before: Tokens before.
        step_ms: The step.
        whole_ms: The run.
        ratio: Median of step ÷ run over rounds.
        peers_step_ms: The step of the peer's file, which returns logits alone.
        ratio_to_peer: Median of step ÷ the peer's step.
    """

    before: int
    step_ms: float
    whole_ms: float
    ratio: float
    peers_step_ms: float
    ratio_to_peer: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Next-token agreement with PyTorch on text; see `model_release.measures.Agreement`."""

    mean_kl: float
    top1: float
    perplexity_ratio: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """Cost against work.

    Attributes:
        panel: What is plotted with it, e.g. `export, s`.
        work: What grows, e.g. `layers`.
        name: What is measured.
        points: Work and cost.
    """

    panel: str
    work: str
    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def exponent(self) -> float:
        """How cost grows with work: the slope of the line through the points on log axes.

        >>> Series(panel="", work="", name="", points=((1, 3), (2, 12), (4, 48))).exponent
        2.0
        """
        xs, ys = ([math.log2(point[axis]) for point in self.points] for axis in (0, 1))
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
        return rise / sum((x - mean_x) ** 2 for x in xs)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured.

    Attributes:
        lengths: Tokens of the sessions' inputs.
        exports: PyTorch -> ONNX, ours first.
        conversions: What is done with an exported file, and copies beside it.
        files: The files of the sessions, our fp32 first.
        sessions: Threads -> file -> its sessions, one a round.
        pairs: Ratios within one process.
        activations: What each kind costs.
        steps: Model -> what a step of generation costs.
        quality: Model -> file -> agreement with PyTorch.
        trained: A trained model of another family: what making its files costs, PyTorch -> ONNX first.
        trained_quality: File -> its agreement with PyTorch.
        series: Cost against work.
        memory: Memory against the model's size.
    """

    lengths: tuple[int, ...]
    exports: Measurements = field(default_factory=dict)
    conversions: Measurements = field(default_factory=dict)
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    sessions: Mapping[int, Mapping[str, Sequence[Session]]] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    activations: Sequence[ActivationCost] = ()
    steps: Mapping[str, StepCost] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, Quality]] = field(default_factory=dict)
    trained: Measurements = field(default_factory=dict)
    trained_quality: Mapping[str, Quality] = field(default_factory=dict)
    series: Sequence[Series] = ()
    memory: Sequence[Series] = ()

    @property
    def growth(self) -> Sequence[Series]:
        """All that is shown against work."""
        return (*self.series, *self.memory)

    def usages(self) -> list[Usage]:
        """Every measured process of the compared jobs."""
        usages = [
            run for group in (self.exports, self.conversions, self.trained) for runs in group.values() for run in runs
        ]
        for files in self.sessions.values():
            usages += [session.usage for sessions in files.values() for session in sessions]
        return usages

    def runs_ms(self, name: str, threads: int, tokens: int) -> list[float]:
        """A file's runs of one length, one a round."""
        return [session.run_ms[tokens] for session in self.sessions[threads][name]]
