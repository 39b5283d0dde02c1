"""Results as text people read: aligned tables for a terminal, Markdown for a page, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # It brings onnxruntime; text does not need it.
    from model_release.browser.results import Browsing, Trial
    from model_release.model.verify.verification import Verification


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns that align; those in `right` to the right.

    >>> print(table(["file", "MB"], [["a.onnx", "7.1"], ["b.onnx", "12.0"]], right=[1]))
    file      MB
    a.onnx   7.1
    b.onnx  12.0
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The same as a Markdown table.

    >>> print(markdown_table(["file", "MB"], [["a.onnx", "7.1"]], right=[1]))
    | file | MB |
    |---|---:|
    | a.onnx | 7.1 |
    """
    rule = "|".join("---:" if column in right else "---" for column in range(len(header)))
    lines = [f"| {' | '.join(header)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def megabytes(size_bytes: float) -> str:
    """Bytes as MB (10^6), with one decimal below 100 MB.

    >>> megabytes(3_700_000), megabytes(497_853_923)
    ('3.7', '498')
    """
    return f"{size_bytes / 1e6:.1f}" if size_bytes < 100e6 else f"{size_bytes / 1e6:.0f}"


def figure(value: float | None, form: str) -> str:
    """A number in a form, or a dash for one that could not be had.

    >>> figure(1.23456, ".2f"), figure(None, ".2f")
    ('1.23', '–')
    """
    return "–" if value is None else format(value, form)


def render_verification(result: "Verification", style: str) -> str:
    """A verification as `text`, `json` or `markdown`."""
    if style == "json":
        return json.dumps(verification_document(result), indent=2)
    markdown = style == "markdown"
    draw = markdown_table if markdown else table
    title = (
        f"{result.file}: {result.metadata.precision}, {megabytes(result.file_bytes)} MB, "
        f"contract {result.metadata.contract_version}"
    )
    parts = [f"## {title}" if markdown else title]
    parts.append(
        draw(
            ["output", "shape", "dtype"],
            [[row.name, "×".join(map(str, row.shape)), row.dtype] for row in result.outputs],
        )
    )
    if result.deviations:
        rows = [
            [item.kind, f"{item.max_abs:.2e}", f"{item.relative:.2e}", f"{item.cosine:.6f}"]
            for item in result.deviations
        ]
        parts.append(draw(["against PyTorch", "max abs", "relative", "cosine"], rows, right=[1, 2, 3]))
    if result.agreement is not None:
        measured = result.agreement
        parts.append(
            f"next token, {measured.positions} positions: mean KL {measured.mean_kl:.2e} nats, "
            f"top-1 agreement {measured.top1:.1%} ({measured.top1_or_tie:.1%} with ties), "
            f"perplexity ×{measured.perplexity_ratio:.4f}"
        )
    if result.findings:
        parts.append(
            draw(
                ["broken", "tensor", "finding"], [[item.clause, item.tensor, item.message] for item in result.findings]
            )
        )
    else:
        against = "" if result.agreement is not None else " (not compared with PyTorch: give --reference)"
        parts.append(f"{len(result.clauses)} clauses hold: {' '.join(result.clauses)}{against}")
    return "\n\n".join(parts)


def verification_document(result: "Verification") -> dict[str, Any]:
    """A verification as plain data."""
    return {
        "file": result.file,
        "passed": result.passed,
        "size_bytes": result.file_bytes,
        "metadata": asdict(result.metadata),
        "outputs": [asdict(row) for row in result.outputs],
        "clauses": list(result.clauses),
        "findings": [asdict(finding) for finding in result.findings],
        "deviations": [asdict(item) for item in result.deviations],
        "agreement": asdict(result.agreement) if result.agreement else None,
    }


def render_browsing(result: "Browsing") -> str:
    """A release in a browser: a row for each file on each backend, then why a backend refuses and what is wrong."""
    header = ["file", "backend", "MB", "load s", "first ms", "median ms", "JS MB", "WASM MB", "worst cosine", "verdict"]
    rows = [_trial_row(trial) for trial in result.trials]
    parts = [f"Chromium {result.browser}", table(header, rows, right=range(2, 9))]
    refused = [f"{trial.file} on {trial.backend}: {trial.refused}" for trial in result.trials if trial.refused]
    found = [f"{trial.file} on {trial.backend}: {finding}" for trial in result.trials for finding in trial.findings]
    found += [str(finding) for finding in result.findings]
    parts += ["\n".join(lines) for lines in (refused, found) if lines]
    return "\n\n".join(parts)


def _trial_row(trial: "Trial") -> list[str]:
    broken = ", ".join(dict.fromkeys(finding.clause for finding in trial.findings))
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


def browsing_document(result: "Browsing") -> bytes:
    """The same as JSON: `backends`, one entry for each file on each backend."""
    backends = [{**asdict(trial), "verdict": trial.verdict} for trial in result.trials]
    findings = [asdict(finding) for finding in result.findings]
    document = {"browser": result.browser, "backends": backends, "findings": findings}
    text = json.dumps(document, indent=2, allow_nan=False)
    return f"{text}\n".encode()
