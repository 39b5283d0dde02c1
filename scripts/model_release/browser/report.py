"""Results as text people read: aligned tables for a terminal, Markdown for a page, JSON for programs."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from model_release.base.text import figure, megabytes, table
from model_release.contract.clauses import BROWSED, judgement_document, render_groups

if TYPE_CHECKING:  # It brings onnxruntime; text does not need it.
    from model_release.browser.results import BackendRun, BrowserReport


def render_browsing(result: "BrowserReport") -> str:
    """A release in a browser: a row for each file on each backend, then why a backend refuses and what is wrong."""
    header = ["file", "backend", "MB", "load s", "first ms", "median ms", "JS MB", "WASM MB", "worst cosine", "verdict"]
    rows = [_trial_row(trial) for trial in result.trials]
    parts = [f"Chromium {result.browser}", table(header, rows, right=range(2, 9))]
    refused = [f"{trial.file} on {trial.backend}: {trial.refused}" for trial in result.trials if trial.refused]
    found = [f"{trial.file} on {trial.backend}: {finding}" for trial in result.trials for finding in trial.findings]
    found += [str(finding) for finding in result.findings]
    parts += ["\n".join(lines) for lines in (refused, found) if lines]
    parts += render_groups(result.judgement, BROWSED)
    return "\n\n".join(parts)


def _trial_row(trial: "BackendRun") -> list[str]:
    broken = ", ".join(trial.judgement.broken)
    return [
        trial.file,
        trial.backend,
        megabytes(trial.size_bytes),
        figure(trial.load_s, ".2f"),
        figure(trial.first_run_ms, ".1f"),
        figure(trial.median_run_ms, ".1f"),
        "–" if trial.js_bytes is None else megabytes(trial.js_bytes),
        "–" if trial.wasm_bytes is None else megabytes(trial.wasm_bytes),
        figure(trial.worst_cosine, ".6f"),
        f"{trial.verdict}: {broken}" if broken else trial.verdict,
    ]


def browsing_document(result: "BrowserReport") -> bytes:
    """The same as JSON: `backends`, one entry for each file on each backend."""
    document = {
        "browser": result.browser,
        "backends": [_trial_entry(trial) for trial in result.trials],
        **judgement_document(result.of_release),
        "nothing_to_judge": result.of_release.nothing_to_judge(BROWSED),
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    return f"{text}\n".encode()


def _trial_entry(trial: "BackendRun") -> dict[str, Any]:
    figures = asdict(trial)
    del figures["judgement"]
    return {**figures, **judgement_document(trial.judgement), "verdict": trial.verdict}
