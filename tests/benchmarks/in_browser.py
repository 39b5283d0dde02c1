"""Runs every precision in Chromium beside another file, in pairs: `python tests/benchmarks/in_browser.py [WEIGHTS]`.

A page for each of the two files; they run in turn, and the median of the pairs' ratios counts. WEIGHTS is a
folder as transformers saves it, by default random ones of GPT-2's 124M shape. It takes about ten minutes.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tables import table
from workshop import MATMUL_NBITS, OURS, PRECISIONS, SCRIPTS, Workshop, make_weights

sys.path.insert(0, str(SCRIPTS))

from model_release.browser import npm
from model_release.browser.chromium import Ask, chromium, opened
from model_release.browser.gate import PAGES
from model_release.browser.pages.live import PACKAGES
from model_release.browser.server import serve

PAIRS = (*((name, OURS) for name in (*PRECISIONS, MATMUL_NBITS)), ("int4", MATMUL_NBITS))
TIMES = {16: 7, 128: 5}
"""Tokens of an input -> pairs of runs."""

THREADS = (1, 2)


def main() -> None:
    """Makes the files, serves them, prints the table."""
    with tempfile.TemporaryDirectory(prefix="browser-benchmark-") as place:
        folder = Path(place)
        weights = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "weights"
        if not weights.exists():
            make_weights((weights, json.dumps({"vocab_size": 50257})))
        workshop = Workshop(weights=weights, folder=folder / "files", peers=Path(sys.executable))
        for name in {name for pair in PAIRS for name in pair}:
            print(f"making {name}", file=sys.stderr)
            workshop.file(name)
        with (
            chromium() as browser,
            serve(workshop.folder, mounts={PACKAGES: npm.install(), **PAGES}) as origin,
        ):
            rows = []
            for name, base in PAIRS:
                cells = []
                for threads in THREADS:
                    with opened(browser, f"{origin}/gate.html") as one, opened(browser, f"{origin}/gate.html") as other:
                        loaded = [_load(ask, workshop, of, threads) for ask, of in ((one, name), (other, base))]
                        cells += [f"{loaded[0]:.1f}", *_ratios(one, other)]
                rows.append([name, base, *cells])
                print(rows[-1], file=sys.stderr)
            head = [f"{threads} × {column}" for threads in THREADS for column in ("session, s", *map(str, TIMES))]
            print(f"Chromium {browser.version}, onnxruntime-web on WebAssembly; runs as ratios, by threads × tokens.\n")
            print(table(["file", "÷", *head], rows))


def _load(ask: Ask, workshop: Workshop, name: str, threads: int) -> float:
    """Loads a file, and runs each length once to warm up; returns how long its session took, in s."""
    file = workshop.file(name).relative_to(workshop.folder).as_posix()
    request = {"build": "onnxruntime-web/wasm", "files": [file], "providers": ["wasm"], "threads": threads}
    answer = ask("gate.open", request)
    if "refused" in answer:
        raise SystemExit(f"error: the browser must load {name}, it says: {answer['refused']}")
    for tokens in TIMES:
        _run(ask, tokens)
    return float(answer["session_ms"]) / 1e3


def _ratios(one: Ask, other: Ask) -> Iterator[str]:
    """For each length, the median of the pairs' ratios."""
    for tokens, times in TIMES.items():
        yield f"{median(_run(one, tokens) / _run(other, tokens) for _ in range(times)):.2f}"


def _run(ask: Ask, tokens: int) -> float:
    """One run of ids 0, 1, 2, …, in ms."""
    (taken,) = ask("gate.time", {"rows": [list(range(tokens))], "times": 1, "enough_ms": 0})
    return float(taken)


if __name__ == "__main__":
    main()
