"""The figures this project set itself, and what came out."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from measure import median_ratio
from results import Results
from sections import COPIED, DEMO
from tables import peaks, table, walls
from workshop import MATMUL_NBITS, OPTIMUM, OURS, copied

LARGEST_MB = {
    "fp16": 250.0,
    "fp16-compute": 250.0,
    "int8": 127.0,
    "int8-dynamic": 126.0,
    "int8-static": 130.0,
    "int4": 71.5,
    "int4-compute": 71.5,
    "small": 50.0,
}
"""Of the 124M shape; `small` lies under the size that git hosts warn of."""

WORST_KL = {"int8": 0.001, "int4": 0.03, "int4-compute": 0.035, "small": 0.08}
LEAST_TOP1 = {"int8": 0.98, "int4": 0.84, "int4-compute": 0.84, "small": 0.74}
WORST_PERPLEXITY = {"int4": 1.03, "int4-compute": 1.03, "small": 1.08}
"""Of the embedded model, on text that it was not trained on."""

_LONGEST_RUNS = {
    (OURS, OPTIMUM): {16: 1.0, 128: 1.0},
    ("int4", MATMUL_NBITS): {16: 1.0, 128: 1.0},
    ("int4-compute", OURS): {1: 0.35, 16: 0.75, 128: 0.9},
}
"""File and base -> tokens -> largest ratio of a run."""

_HIGHEST_PEAKS = {"int8": 1.25, "int4": 1.25, "int4-compute": 0.3}
"""Of a process that creates a session, in that of fp32."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A limit and the figure that should keep it.

    Attributes:
        least: Whether the limit is a lower one.
        digits: Decimals of both.
    """

    what: str
    limit: float
    measured: float
    least: bool = False
    digits: int = 2

    @property
    def met(self) -> bool:
        """Whether the figure keeps the limit."""
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    def row(self) -> list[str]:
        """A row of the table."""
        sign = "≥" if self.least else "≤"
        return [
            self.what,
            f"{sign} {self.limit:.{self.digits}f}",
            f"{self.measured:.{self.digits}f}",
            "met" if self.met else "**missed**",
        ]


def judge(results: Results) -> str:
    """A table of the targets of whatever was measured; empty if there is none."""
    rows = [
        target.row()
        for part in (_export, _trained, _sizes, _quantize, _peaks, _runs, _steps, _quality)
        for target in part(results)
    ]
    return table(["", "target", "measured", ""], rows) if rows else ""


def _export(results: Results) -> Iterator[Target]:
    if not results.exports:
        return
    ours, peer = results.exports[OURS], results.exports[OPTIMUM]
    yield Target(what=f"export, wall ÷ {OPTIMUM}", limit=0.5, measured=median_ratio(walls(ours), walls(peer)))
    yield Target(what="export, peak memory, MB", limit=800, measured=median(peaks(ours)) / 1e6, digits=0)


def _trained(results: Results) -> Iterator[Target]:
    if results.trained:
        measured = median_ratio(walls(results.trained[OURS]), walls(results.trained[OPTIMUM]))
        yield Target(what=f"export of the trained model, wall ÷ {OPTIMUM}", limit=0.5, measured=measured)


def _sizes(results: Results) -> Iterator[Target]:
    for name, limit in LARGEST_MB.items():
        if name in results.files:
            measured = results.files[name].size_bytes / 1e6
        elif name in results.conversions:
            measured = results.conversions[name][-1].size_bytes / 1e6
        else:
            continue
        yield Target(what=f"{name}, MB", limit=limit, measured=measured, digits=1)


def _quantize(results: Results) -> Iterator[Target]:
    if not results.conversions:
        return
    seconds = {name: walls(runs) for name, runs in results.conversions.items()}
    for name in COPIED:
        measured = median_ratio(seconds[name], seconds[copied(name)])
        yield Target(what=f"making {name}, wall ÷ imports and copying as many bytes", limit=1.5, measured=measured)
    measured = median_ratio(seconds["int4"], seconds[MATMUL_NBITS])
    yield Target(what=f"making int4, wall ÷ {MATMUL_NBITS}", limit=1.0, measured=measured)


def _runs(results: Results) -> Iterator[Target]:
    for pair in results.pairs:
        for tokens, limit in _LONGEST_RUNS.get((pair.file, pair.base), {}).items():
            if tokens in pair.ratios:
                what = f"{pair.file}, run ÷ {pair.base}, {pair.threads} × {tokens}"
                yield Target(what=what, limit=limit, measured=pair.ratios[tokens])


def _peaks(results: Results) -> Iterator[Target]:
    if results.sessions:
        sessions = results.sessions[max(results.sessions)]
        peak = {name: median(run.create_peak_bytes for run in runs) for name, runs in sessions.items()}
        for name, limit in _HIGHEST_PEAKS.items():
            yield Target(
                what=f"{name}, peak of creating a session ÷ {OURS}", limit=limit, measured=peak[name] / peak[OURS]
            )


def _steps(results: Results) -> Iterator[Target]:
    if DEMO in results.steps:
        yield Target(
            what="a token after 200, step ÷ whole run", limit=0.15, measured=results.steps[DEMO].ratio, digits=3
        )


def _quality(results: Results) -> Iterator[Target]:
    for name, quality in results.quality.get(DEMO, {}).items():
        if name in WORST_KL:
            yield Target(what=f"{name}, mean KL, nats", limit=WORST_KL[name], measured=quality.mean_kl, digits=4)
        if name in LEAST_TOP1:
            top1 = LEAST_TOP1[name]
            yield Target(what=f"{name}, top-1 agreement", limit=top1, measured=quality.top1, least=True, digits=3)
        if name in WORST_PERPLEXITY:
            limit = WORST_PERPLEXITY[name]
            yield Target(what=f"{name}, perplexity ratio", limit=limit, measured=quality.perplexity_ratio, digits=3)
