"""The benchmarks' page: what was measured is judged and shown as it came out. Nothing is measured here."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from measure import BenchmarkError, Usage
from page import render, summarize
from plot import draw
from record import with_measured
from results import Pair, Quality, Results, Series, Session, StepCost, StoredFile
from sections import COPIED, DEMO, SESSIONS
from targets import judge
from workshop import EXPORTERS, OPTIMUM, OURS, PEERS_QUANTIZERS, PRECISIONS, copied


def usage(wall_s: float, size_bytes: int = 0) -> Usage:
    return Usage(
        wall_s=wall_s, cpu_s=wall_s, peak_rss_bytes=700_000_000, size_bytes=size_bytes, others_share=0.0, stdout=""
    )


def session(ms: float, peak_bytes: int) -> Session:
    return Session(
        usage=usage(1.0),
        create_s=1.0,
        create_peak_bytes=peak_bytes,
        run_ms={16: ms, 128: 9 * ms},
        logits=(1.0, -2.0),
    )


@pytest.fixture
def results() -> Results:
    """A whole run in which all figures are good but four: an export and two runs take long, and int4 is large."""
    made = {name: [usage(1.0, 49_000_000)] for name in (*PRECISIONS, *PEERS_QUANTIZERS)}
    return Results(
        lengths=(16, 128),
        exports={name: [usage(5.0 if name == OURS else 10.0)] for name in EXPORTERS},
        conversions=made | {copied(name): [usage(1.0)] for name in COPIED},
        files={
            name: StoredFile(size_bytes=80_000_000 if name == "int4" else 49_000_000, nodes=7, opset=20)
            for name in SESSIONS
        },
        sessions={
            threads: {name: [session(8.0 / threads, 200 if name == "int4-compute" else 800)] for name in SESSIONS}
            for threads in (1, 2)
        },
        pairs=[
            Pair(file=OURS, base=OPTIMUM, threads=1, ratios={1: 2.0, 16: 0.9, 128: 1.1}),
            Pair(file="int4-compute", base=OURS, threads=1, ratios={1: 0.3, 16: 0.8, 128: 0.8}),
        ],
        steps={
            DEMO: StepCost(before=200, step_ms=1.0, whole_ms=20.0, ratio=0.05, peers_step_ms=0.9, ratio_to_peer=1.1)
        },
        quality={DEMO: {name: Quality(mean_kl=0.0, top1=1.0, perplexity_ratio=1.0) for name in (OURS, *PRECISIONS)}},
        trained={OURS: [usage(9.0)], OPTIMUM: [usage(10.0)], "int8": [usage(4.0)]},
        trained_quality={name: Quality(mean_kl=0.01, top1=0.9, perplexity_ratio=1.01) for name in (OURS, "int8")},
        memory=[
            Series(
                panel="memory of a session, MB", work="parameters, millions", name=OURS, points=((124, 1.0), (355, 3.0))
            )
        ],
        series=[
            Series(panel="wall, s", work="layers", name=OURS, points=((2, 5.0), (8, 5.0))),
            Series(panel="wall, s", work="layers", name=OPTIMUM, points=((2, 5.0), (8, 20.0))),
        ],
    )


def test_exactly_the_missed_targets_are_told(results: Results) -> None:
    missed = [line.split("|")[1].strip() for line in judge(results).splitlines() if "**missed**" in line]
    assert missed == [
        f"export of the trained model, wall ÷ {OPTIMUM}",
        "int4, MB",
        f"{OURS}, run ÷ {OPTIMUM}, 1 × 128",
        f"int4-compute, run ÷ {OURS}, 1 × 16",
    ]


def test_a_page_has_a_part_for_each_section_that_ran_and_no_other(results: Results) -> None:
    whole = render(results, title="a model", rounds=1, machine="a machine", judged=True)
    assert [line for line in whole.splitlines() if line.startswith("## ")] == [
        "## Targets",
        "## Export",
        "## Quantize, verify",
        "## Files and sessions",
        "## Latency as ratios",
        "## Generation",
        f"## Quality: {DEMO}",
        "## A trained model of another family",
        "## Cost against work",
    ]
    alone = Results(lengths=(16,), quality=results.quality)
    page = render(alone, title="a model", rounds=1, machine="a machine", judged=False)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [f"## Quality: {DEMO}"]


def test_the_summary_has_a_row_for_each_of_our_files_and_each_peer(results: Results) -> None:
    rows = summarize(results, "a machine").splitlines()[2:-2]
    assert len(rows) == len((OURS, *PRECISIONS, OPTIMUM, *PEERS_QUANTIZERS))
    assert rows[0] == "| `export.py` | 49.0 | 5.0 | 700 | 4 | 36 | 0.0000 |"


def test_growth_is_the_slope_on_log_axes(results: Results) -> None:
    assert [series.exponent for series in results.series] == pytest.approx([0.0, 1.0])


def test_the_plot_has_a_line_for_each_series_and_a_point_for_each_figure(results: Results) -> None:
    plot = draw(results.series)
    assert (plot.count("<polyline"), plot.count("<circle")) == (2, 4)


def test_figures_replace_only_what_stands_between_their_marks() -> None:
    document = (
        "before\n<!-- measured: summary -->\nold\n<!-- end -->\nbetween\n<!-- measured: page -->\nkept\n<!-- end -->\n"
    )
    assert with_measured(document, "summary", "new\n") == document.replace("old", "new")
    with pytest.raises(BenchmarkError, match="must have one part measured: page, got 0"):
        with_measured("no marks", "page", "new")
