"""Measurements -> a Markdown page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from measure import Measurements, Usage, median_ratio

EXPORT, PRECISION, PEER = "export.py", "fp32", "optimum-onnx"


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
        run_ms: Tokens of the input -> median run.
        logits: Samples of the last position's logits.
    """

    usage: Usage
    create_s: float
    run_ms: Mapping[int, float]
    logits: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured.

    Attributes:
        exports: PyTorch -> ONNX, ours first.
        conversions: What is done with an exported file.
        files: Every file, our fp32 first.
        sessions: Threads -> file -> its sessions, one a round.
        lengths: Tokens of the inputs.
    """

    exports: Measurements
    conversions: Measurements
    files: Mapping[str, StoredFile]
    sessions: Mapping[int, Mapping[str, Sequence[Session]]]
    lengths: tuple[int, ...]


def render(results: Results, *, title: str, rounds: int, machine: str, judge: bool) -> str:
    """The page.

    Args:
        results: The measurements.
        title: The model in words.
        rounds: How often each thing ran.
        machine: What it ran on.
        judge: Whether to set the figures against the project's targets.
    """
    rounded = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    parts = [
        f"# {title}",
        f"{machine}. Batch 1, {rounded} in turn. MB is 10⁶ bytes. During a run, other processes took "
        f"{_others(results)} of the processors.",
        *(["## Targets", _targets(results)] if judge else []),
        "## Export",
        f"“÷” is `{EXPORT}` divided by the row: below 1 it is cheaper.",
        _exports(results),
        "## Quantize, verify",
        _conversions(results),
        "## Files and sessions",
        _sessions(results),
        "Runs in ms, by threads × tokens. “Δ logits” is the largest difference from fp32 in a sample of the logits.",
        "## Latency as ratios",
        f"Each row's runs divided by our {PRECISION}'s / by {PEER}'s: below 1 the row is faster.",
        _ratios(results),
    ]
    return "\n\n".join(parts) + "\n"


def _exports(results: Results) -> str:
    ours = results.exports[EXPORT]
    rows = []
    for name, runs in results.exports.items():
        ratios = [
            _ratio(_walls(ours), _walls(runs)),
            _ratio(_cpus(ours), _cpus(runs)),
            _ratio(_peaks(ours), _peaks(runs)),
        ]
        rows.append([_code(name), *_cost(runs), *(["", "", ""] if name == EXPORT else ratios)])
    return _table(["", "wall s", "(range)", "CPU s", "peak MB", "file MB", "wall ÷", "CPU ÷", "memory ÷"], rows)


def _conversions(results: Results) -> str:
    rows = [[_code(name), *_cost(runs)] for name, runs in results.conversions.items()]
    return _table(["", "wall s", "(range)", "CPU s", "peak MB", "file MB"], rows)


def _sessions(results: Results) -> str:
    most = max(results.sessions)
    columns = [(threads, tokens) for threads in results.sessions for tokens in results.lengths]
    expected = results.sessions[most][PRECISION][0].logits
    rows = []
    for name, file in results.files.items():
        sessions = results.sessions[most][name]
        difference = max(abs(got - wanted) for got, wanted in zip(sessions[0].logits, expected, strict=True))
        rows.append(
            [
                name,
                f"{file.size_bytes / 1e6:.1f}",
                str(file.nodes),
                str(file.opset),
                f"{median(session.create_s for session in sessions):.2f}",
                f"{median(session.usage.peak_rss_bytes for session in sessions) / 1e6:.0f}",
                *(f"{median(_runs_ms(results, name, *column)):.1f}" for column in columns),
                f"{difference:.0e}" if difference else "0",
            ]
        )
    heads = [f"{threads} × {tokens}" for threads, tokens in columns]
    return _table(["", "MB", "nodes", "opset", f"create s ({most} threads)", "peak MB", *heads, "Δ logits"], rows)


def _ratios(results: Results) -> str:
    columns = [(threads, tokens) for threads in results.sessions for tokens in results.lengths]
    rows = []
    for name in results.files:
        cells = []
        for column in columns:
            runs = _runs_ms(results, name, *column)
            cells.append(" / ".join(_ratio(runs, _runs_ms(results, other, *column)) for other in (PRECISION, PEER)))
        rows.append([name, *cells])
    return _table(["", *(f"{threads} × {tokens}" for threads, tokens in columns)], rows)


def _targets(results: Results) -> str:
    """The figures this project set itself, and what came out."""
    ours, peer = results.exports[EXPORT], results.exports[PEER]
    columns = [(threads, tokens) for threads in results.sessions for tokens in results.lengths]
    slowest = max(
        median_ratio(_runs_ms(results, "fp16", *column), _runs_ms(results, PRECISION, *column)) for column in columns
    )
    fp32_mb, fp16_mb = (results.files[name].size_bytes / 1e6 for name in (PRECISION, "fp16"))
    wall, memory = median_ratio(_walls(ours), _walls(peer)), median_ratio(_peaks(ours), _peaks(peer))
    rows = [
        [f"export, wall ÷ {PEER}", "≤ 1.0", f"{wall:.2f}", _met(wall <= 1.0)],
        [f"export, peak memory ÷ {PEER}", "≤ 0.6", f"{memory:.2f}", _met(memory <= 0.6)],
        ["fp32, MB", "≤ 499", f"{fp32_mb:.1f}", _met(fp32_mb <= 499)],
        ["fp16, MB", "≤ 250", f"{fp16_mb:.1f}", _met(fp16_mb <= 250)],
        ["fp16, slowest run ÷ fp32", "≤ 1.15", f"{slowest:.2f}", _met(slowest <= 1.15)],
    ]
    return _table(["", "target", "measured", ""], rows)


def _others(results: Results) -> str:
    """How idle the machine was otherwise, over all runs that count."""
    runs = [run for group in (results.exports, results.conversions) for runs in group.values() for run in runs]
    for files in results.sessions.values():
        runs += [session.usage for sessions in files.values() for session in sessions]
    shares = [run.others_share for run in runs]
    return f"{median(shares):.1%} (median) to {max(shares):.1%} (worst)"


def _met(reached: bool) -> str:
    return "met" if reached else "**missed**"


def _cost(runs: Sequence[Usage]) -> list[str]:
    walls = _walls(runs)
    size_bytes = runs[-1].size_bytes
    return [
        f"{median(walls):.1f}",
        f"{min(walls):.1f}–{max(walls):.1f}",
        f"{median(_cpus(runs)):.1f}",
        f"{median(_peaks(runs)) / 1e6:.0f}",
        f"{size_bytes / 1e6:.1f}" if size_bytes else "",
    ]


def _walls(runs: Sequence[Usage]) -> list[float]:
    return [run.wall_s for run in runs]


def _cpus(runs: Sequence[Usage]) -> list[float]:
    return [run.cpu_s for run in runs]


def _peaks(runs: Sequence[Usage]) -> list[float]:
    return [run.peak_rss_bytes for run in runs]


def _runs_ms(results: Results, name: str, threads: int, tokens: int) -> list[float]:
    return [session.run_ms[tokens] for session in results.sessions[threads][name]]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{median_ratio(ours, theirs):.2f}"


def _code(name: str) -> str:
    return f"`{name}`" if ".py" in name else name


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
