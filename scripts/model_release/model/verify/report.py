"""A verification as text people read: tables for a terminal, Markdown for a page, JSON for programs."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from model_release.base.text import markdown_table, megabytes, table
from model_release.contract.clauses import VERIFIED, judgement_document, render_groups

if TYPE_CHECKING:  # It brings onnxruntime; text does not need it.
    from model_release.model.verify.verification import Verification


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
        measured, ids = result.agreement, "" if result.on_text else " of random ids"
        parts.append(
            f"next token, {measured.positions} positions{ids}: mean KL {measured.mean_kl:.2e} nats, "
            f"top-1 agreement {measured.top1:.1%} ({measured.top1_or_tie:.1%} with ties), "
            f"perplexity ×{measured.perplexity_ratio:.4f}"
        )
    if result.findings:
        parts.append(
            draw(
                ["broken", "tensor", "finding"], [[item.clause, item.tensor, item.message] for item in result.findings]
            )
        )
    note = "" if result.deviations else " (not compared with PyTorch: give --reference)"
    parts += render_groups(result.judgement, VERIFIED, note=note, draw=draw)
    return "\n\n".join(parts)


def verification_document(result: "Verification") -> dict[str, Any]:
    """A verification as plain data."""
    return {
        "file": result.file,
        "passed": result.passed,
        "size_bytes": result.file_bytes,
        "metadata": asdict(result.metadata),
        "outputs": [asdict(row) for row in result.outputs],
        **judgement_document(result.judgement),
        "nothing_to_judge": result.judgement.nothing_to_judge(VERIFIED),
        "deviations": [asdict(item) for item in result.deviations],
        "agreement": asdict(result.agreement) | {"on_text": result.on_text} if result.agreement else None,
    }
