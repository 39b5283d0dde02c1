"""Measurements -> a Markdown page, and a table that sums it up."""

from collections.abc import Mapping
from statistics import median

from measure import Measurements
from results import Quality, Results
from sections import COPIED, DEMO
from tables import COST, cost, cpus, peaks, ratio, table, walls
from targets import judge
from workshop import EXPORTERS, OPTIMUM, OPTIMUM_PAST, OURS, PEERS_QUANTIZERS, PRECISIONS, copied

_AGREEMENT = ("mean KL, nats", "top-1", "perplexity")
_COMMANDS = {OURS: "`export.py`", **{name: f"`quantize.py {name}`" for name in PRECISIONS}}


def render(results: Results, *, title: str, rounds: int, machine: str, judged: bool, plot: str = "") -> str:
    """The page: a part for each section that was measured.

    Args:
        results: The measurements.
        title: The model in words.
        rounds: How often each thing ran.
        machine: What it ran on.
        judged: Whether to set the figures against the project's targets.
        plot: Where the plot is; empty if there is none.
    """
    rounded = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    parts = [
        f"# {title}",
        f"{machine}. Batch 1, {rounded} in turn. MB is 10⁶ bytes.{_others(results)}",
    ]
    targets = judge(results) if judged else ""
    parts += ["## Targets", targets] if targets else []
    if results.exports:
        parts += ["## Export", "“÷” is `export.py` divided by the row: below 1 it is cheaper.", _exports(results)]
    if results.conversions:
        parts += [
            "## Quantize, verify",
            "“÷ copy” is the row's wall time divided by that of the same imports, of reading our fp32 file, and of "
            "writing as many bytes as the row's file has.",
            _conversions(results.conversions),
        ]
    if results.sessions:
        parts += [
            "## Files and sessions",
            _sessions(results),
            "Runs in ms, by threads × tokens. “Δ logits” is the largest difference from fp32 in a sample of the "
            "logits, which are as large as “logits”.",
            "## Latency as ratios",
            f"Each row's runs divided by our fp32's / by {OPTIMUM}'s: below 1 the row is faster.",
            _ratios(results),
            "Two files run alternately in one process, the first divided by the second:",
            _pairs(results),
        ]
    if results.activations:
        parts += ["## Activations", "Against the file that returns logits only, with 2 threads.", _activations(results)]
    if results.steps:
        parts += [
            "## Generation",
            "A step of one token in a file made with `--cache`, against a run of the whole text in one without.",
            _steps(results),
        ]
    for model, files in results.quality.items():
        parts += [f"## Quality: {model}", _quality(files)]
    if results.trained:
        parts += ["## A trained model of another family", _trained(results)]
    if results.growth:
        parts += ["## Cost against work", *([f"![Cost against work, on log axes]({plot})"] if plot else [])]
        parts += [_series(results), "“Growth” is the slope on log axes: 1 is proportional, 0 constant."]
    return "\n\n".join(parts) + "\n"


def summarize(results: Results, machine: str) -> str:
    """One table of a run with all sections: making, size, speed and quality, ours beside theirs."""
    quality = results.quality[DEMO]
    rows = []
    for name in (OURS, *PRECISIONS, OPTIMUM, *PEERS_QUANTIZERS):
        made = (results.exports if name in EXPORTERS else results.conversions)[name]
        one, two = (f"{median(results.runs_ms(name, max(results.sessions), tokens)):.0f}" for tokens in (16, 128))
        kl = f"{quality[name].mean_kl:.4f}" if name in quality else ""
        memory_mb = median(peaks(made)) / 1e6
        size_mb = results.files[name].size_bytes / 1e6
        rows.append([_label(name), f"{size_mb:.1f}", f"{median(walls(made)):.1f}", f"{memory_mb:.0f}", one, two, kl])
    head = ["", "MB", "made in, s", "peak, MB", "16 tokens, ms", "128 tokens, ms", "mean KL, nats"]
    return f"{table(head, rows)}\n\n{machine}. Two threads; KL on the embedded model's held-back text.\n"


def _exports(results: Results) -> str:
    ours = results.exports[OURS]
    rows = []
    for name, runs in results.exports.items():
        ratios = [ratio(figures(ours), figures(runs)) for figures in (walls, cpus, peaks)]
        rows.append([_label(name), *cost(runs), *(["", "", ""] if name == OURS else ratios)])
    return table(["", *COST, "wall ÷", "CPU ÷", "memory ÷"], rows)


def _conversions(conversions: Measurements) -> str:
    rows = []
    for name, runs in conversions.items():
        least = ratio(walls(runs), walls(conversions[copied(name)])) if name in COPIED else ""
        rows.append([_label(name), *cost(runs), least])
    return table(["", *COST, "÷ copy"], rows)


def _sessions(results: Results) -> str:
    most = max(results.sessions)
    columns = _columns(results)
    expected = results.sessions[most][OURS][0].logits
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
                *(f"{median(results.runs_ms(name, *column)):.1f}" for column in columns),
                f"{difference:.0e}" if difference else "0",
            ]
        )
    heads = [f"{threads} × {tokens}" for threads, tokens in columns]
    logits = max(map(abs, expected))
    head = ["", "MB", "nodes", "opset", f"create s ({most} threads)", "peak MB", *heads, f"Δ logits (of {logits:.1f})"]
    return table(head, rows)


def _ratios(results: Results) -> str:
    rows = []
    for name in results.files:
        cells = []
        for column in _columns(results):
            runs = results.runs_ms(name, *column)
            cells.append(" / ".join(ratio(runs, results.runs_ms(other, *column)) for other in (OURS, OPTIMUM)))
        rows.append([name, *cells])
    return table(["", *(f"{threads} × {tokens}" for threads, tokens in _columns(results))], rows)


def _pairs(results: Results) -> str:
    lengths = list(results.pairs[0].ratios)
    rows = [
        [f"{pair.file} ÷ {pair.base}", str(pair.threads), *(f"{pair.ratios[tokens]:.2f}" for tokens in lengths)]
        for pair in results.pairs
    ]
    return table(["", "threads", *(f"{tokens} tokens" for tokens in lengths)], rows)


def _activations(results: Results) -> str:
    lengths = list(results.activations[0].ratios)
    rows = [
        [
            f"`{row.kinds}`",
            row.layers,
            f"{row.added_bytes:+d}",
            f"{row.returned_bytes / 1e6:.1f}",
            *(f"{row.ratios[tokens]:.2f}" for tokens in lengths),
        ]
        for row in results.activations
    ]
    runs = [f"run ÷, {tokens} tokens" for tokens in lengths]
    return table(["`--activations`", "layers", "file, bytes", f"returned, MB ({max(lengths)} tokens)", *runs], rows)


def _steps(results: Results) -> str:
    rows = [
        [
            model,
            str(cost.before),
            f"{cost.step_ms:.1f}",
            f"{cost.whole_ms:.1f}",
            f"{cost.ratio:.3f}",
            f"{cost.peers_step_ms:.1f}",
            f"{cost.ratio_to_peer:.2f}",
        ]
        for model, cost in results.steps.items()
    ]
    return table(["", "tokens before", "step, ms", "whole run, ms", "÷", f"step of {OPTIMUM_PAST}, ms", "÷"], rows)


def _quality(files: Mapping[str, Quality]) -> str:
    return table(["", *_AGREEMENT], [[name, *_agreement(quality)] for name, quality in files.items()])


def _trained(results: Results) -> str:
    peer = results.trained[OPTIMUM]
    rows = []
    for name, runs in results.trained.items():
        exported = ratio(walls(runs), walls(peer)) if name in EXPORTERS else ""
        quality = results.trained_quality.get(name)
        rows.append([_label(name), *cost(runs), exported, *(_agreement(quality) if quality else ["", "", ""])])
    return table(["", *COST, f"÷ {OPTIMUM}", *_AGREEMENT], rows)


def _agreement(quality: Quality) -> list[str]:
    return [f"{quality.mean_kl:.5f}", f"{quality.top1:.1%}", f"× {quality.perplexity_ratio:.4f}"]


def _series(results: Results) -> str:
    rows = []
    for series in results.growth:
        works = ", ".join(f"{work:g}" for work, _ in series.points)
        costs = ", ".join(f"{cost:.1f}" if cost < 100 else f"{cost:.0f}" for _, cost in series.points)
        rows.append(
            [f"{series.name}: {series.panel}", f"{series.work} {works}", costs, f"{round(series.exponent, 2) + 0:.2f}"]
        )
    return table(["", "work", "cost", "growth"], rows)


def _columns(results: Results) -> list[tuple[int, int]]:
    return [(threads, tokens) for threads in results.sessions for tokens in results.lengths]


def _others(results: Results) -> str:
    """How idle the machine was otherwise, over all runs that count."""
    shares = [usage.others_share for usage in results.usages()]
    if not shares:
        return ""
    return (
        f" During a run, other processes took {median(shares):.1%} (median) to {max(shares):.1%} (worst) "
        "of the processors."
    )


def _label(name: str) -> str:
    return _COMMANDS.get(name, f"`{name}`" if ".py" in name else name)
