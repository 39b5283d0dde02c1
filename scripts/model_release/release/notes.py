"""A manifest -> release notes in Markdown. Pure text; equal manifests give equal notes.

Names and texts of a manifest may come from anywhere. They stand in code spans, where GitHub makes no
link, mention, image or HTML of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from model_release.base.errors import UsageError
from model_release.base.github_limits import ASSET_NAME, MAX_NOTES_CHARACTERS, REPOSITORY
from model_release.base.text import figure, markdown_table, megabytes, size_cell
from model_release.browser.results import Timings, TimingsByFile
from model_release.contract.activations import load_contract
from model_release.contract.manifest import BOM_NAME, Manifest, ModelEntry
from model_release.contract.measured import BackendEntry, Measured
from model_release.contract.pinned_models import known_entry, load_registry

DEMO = "demo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_MAX_ROWS = 120
_MAX_TEXT = 160


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """Who has signed where a release's files come from; both are `owner/name`.

    Attributes:
        repository: Whose run it was.
        signer: Whose workflow it was; another one's in a call.
    """

    repository: str
    signer: str

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.signer):
            raise UsageError(f"--signer-repo must be OWNER/NAME, got {self.signer[:80]!a}. Use e.g. octocat/app.")


def render_notes(
    document: Manifest,
    figures: Mapping[str, Measured],
    previous: Manifest | None = None,
    companions: Sequence[Manifest] = (),
    timings: TimingsByFile = MappingProxyType({}),
    attestation: Attestation | None = None,
) -> str:
    """The notes of a release.

    Args:
        document: Its manifest.
        figures: What was measured on each of its models, by the prefix of their files' names.
        previous: The manifest of the release before it.
        companions: The manifests of further models in it.
        timings: What its files needed in a browser.
        attestation: Who has signed them, if anybody has.
    """
    names = " and ".join(code(each.name) for each in (document, *companions))
    parts = [
        f"{names} as ONNX, with intermediate activations as outputs; "
        "every model file was checked against PyTorch and the contract.",
        *_sections(document, figures[document.asset_prefix], timings),
        _verification(document, attestation),
    ]
    for companion in companions:
        parts += [f"# {code(companion.name)}", *_sections(companion, figures[companion.asset_prefix], timings)]
    if previous is not None:
        parts.append(_changes(document, previous))
    return "\n\n".join(parts)[:MAX_NOTES_CHARACTERS]  # Every part is bounded; this is the proof.


def _sections(document: Manifest, figures: Measured, timings: TimingsByFile) -> list[str]:
    """What there is to say of one model."""
    return [_files(document, figures), *_browsers(document, figures, timings), _origin(document, figures)]


def render_card(document: Manifest, figures: Measured) -> str:
    """What was built, for the page of the run that built it: sizes, the gate's verdict, errors, hashes."""
    limit = megabytes(document.delivery.threshold_bytes)
    rows = []
    for variant in document.variants:
        measured = figures.of(variant.file)
        worst = max(measured.deviations, key=lambda row: row.relative, default=None)
        rows.append(
            [
                code(variant.file),
                size_cell(variant.size_bytes),
                f"{'at or under' if variant.within_threshold else 'over'} {limit} MB",
                f"{worst.relative:.1e} ({code(worst.kind)})" if worst else "",
                f"{measured.agreement.mean_kl_nats:.1e}",
                f"{measured.agreement.top1:.1%}",
            ]
        )
    header = ["model", "MB", "size gate", "worst relative error", "mean KL (nats)", "top-1"]
    hashes = [[code(entry.name), size_cell(entry.size_bytes), code(entry.sha256)] for entry in document.files]
    delivery = document.delivery
    return "\n\n".join(
        [
            f"## {code(document.name)} for {code(document.tag)}",
            _limited(header, rows, right=[1, 3, 4, 5]),
            _clauses(document, figures),
            f"The web app's is {code(delivery.file)}, delivered by {delivery.mode}.",
            _origin(document, figures),
            f"## Hashes\n\n{_limited(['file', 'MB', 'sha256'], hashes, right=[1])}",
        ]
    )


def _clauses(document: Manifest, figures: Measured) -> str:
    """Which clauses hold: those of all files once, then what a file has besides."""
    held = {variant.file: figures.of(variant.file).clauses for variant in document.variants}
    everywhere = [clause for clause in next(iter(held.values())) if all(clause in each for each in held.values())]
    lines = [f"clauses that hold in every model file: {' '.join(everywhere) or 'none'}"]
    for file, clauses in held.items():
        if more := [clause for clause in clauses if clause not in everywhere]:
            lines.append(f"in {code(file)} also: {' '.join(more)}")
    return "\n".join(f"- {line}" for line in lines[:_MAX_ROWS])


def code(text: object) -> str:
    """Any text as a code span of one line; a bar, which would end a table's cell, becomes a broken one.

    >>> code("gpt2"), code("a`b"), code("@you <img src=x>")
    ('`gpt2`', '``a`b``', '`@you <img src=x>`')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text).replace("|", "¦")).split())
    line = line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"
    if not line:
        return "–"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _files(document: Manifest, figures: Measured) -> str:
    """Every file, and what was measured on the models."""
    variants = document.variants_by_file
    rows = []
    for entry in sorted(document.files, key=lambda entry: (entry.name not in variants, entry.name)):
        row = [code(entry.name), size_cell(entry.size_bytes), "", "", "", ""]
        if variant := variants.get(entry.name):
            measured = figures.of(variant.file)
            row[2:] = [
                code(variant.precision),
                f"{measured.agreement.mean_kl_nats:.1e}",
                f"{measured.agreement.top1:.1%}",
                str(len(measured.clauses)),
            ]
        rows.append(row)
    table = _limited(["file", "MB", "precision", "mean KL (nats)", "top-1", "clauses"], rows, right=[1, 3, 4, 5])
    agreement = figures.of(document.variants[0].file).agreement
    bom = document.asset_prefix + BOM_NAME
    materials = f"; the bill of materials is {code(bom)} (CycloneDX)" if bom in document.descriptions else ""
    return (
        f"## Files\n\n{table}\n\n"
        f"Mean KL divergence and top-1 agreement of the next token against PyTorch in fp32, "
        f"over {agreement.positions} positions of {code(agreement.text)}. Largest deviations are in "
        f"`measured.json`{materials}. MB is 10⁶ bytes.{_advice(document)}"
    )


def _advice(document: Manifest) -> str:
    """Where the release's precisions are best, as far as the contract says so; a release may have others."""
    known = load_contract().precisions
    lines = [
        f"- {code(variant.precision)}: {known[variant.precision].advice}"
        for variant in document.variants
        if variant.precision in known and known[variant.precision].advice
    ]
    return "".join(["\n", *(f"\n{line}" for line in lines)]) if lines else ""


def _browsers(document: Manifest, figures: Measured, timings: TimingsByFile) -> list[str]:
    """How closely each file runs on each backend, and what it needs for that; nothing, if no browser was asked."""
    entries = [(variant, entry) for variant in document.variants for entry in figures.of(variant.file).backends or ()]
    if not entries:
        return []
    rows, reasons = [], []
    for variant, entry in entries:
        file, backend = variant.file, entry.backend
        needed = _needed(timings.get((file, backend), Timings())) if timings else []
        rows.append([code(file), size_cell(variant.size_bytes), code(backend), _agreement(entry), *needed])
        if not entry.runs:
            reasons.append(f"- {code(file)} on {code(backend)}: {code(entry.reason or '')}")
    needs = ["download s", "session s", "first ms", "median ms", "JS MB", "WASM MB"] if timings else []
    header = ["file", "MB", "backend", "cosine", *needs]
    about = "The least cosine of an output with the fp32 file's, in headless Chromium with onnxruntime-web."
    if timings:
        about += " Times and memory are those of the one machine that made this release."
    table = _limited(header, rows, right=[1, *range(3, len(header))])
    return ["\n\n".join(["## In a browser", table, about, *(["\n".join(reasons[:_MAX_ROWS])] if reasons else [])])]


def _agreement(entry: BackendEntry) -> str:
    return f"{entry.cosine:.4f}" if entry.runs and entry.cosine is not None else "does not run"


def _needed(of: Timings) -> list[str]:
    """The cells of a file's times and memory."""
    download_s = None if of.load_s is None or of.session_s is None else of.load_s - of.session_s
    times = [(download_s, ".2f"), (of.session_s, ".2f"), (of.first_run_ms, ".1f"), (of.median_run_ms, ".1f")]
    memory = ["–" if size is None else megabytes(size) for size in (of.js_bytes, of.wasm_bytes)]
    return [*(figure(value, form) for value, form in times), *memory]


def _origin(document: Manifest, figures: Measured) -> str:
    """Where the model comes from, and what was made of it."""
    model, selection, delivery = document.model, document.selection, document.delivery
    layers = ", ".join(map(str, selection.layers[:100]))
    activations = ", ".join(code(name) for name in selection.activations[:100])
    made_with = ", ".join(code(f"{name} {version}") for name, version in sorted(figures.made_with.items())[:30])
    rows = [
        ["contract", code(document.contract_version)],
        ["source", code(model.source)],
        ["revision", code(model.revision)],
        ["weights sha256", code(model.weights_sha256)],
        ["licence of the weights", _licence(model)],
        ["parameters", f"{model.parameters:,}"],
        ["layers to see", layers or "none"],
        ["activations", activations or "none"],
        ["logits", f"{selection.logits} positions"],
        *([["keys and values", "in and out, for generation step by step"]] if selection.cache else []),
        *([["interventions", "gains of heads and vectors to steer with"]] if selection.interventions else []),
        *([["context", f"{model.context:,} tokens"]] if model.context else []),
        ["ONNX opset", str(selection.opset)],
        ["for the web app", f"{code(delivery.file)}, delivered by {delivery.mode}"],
        ["made with", made_with or "unknown"],
    ]
    return f"## Origin\n\n{markdown_table(['', ''], rows)}"


def _verification(document: Manifest, attestation: Attestation | None) -> str:
    """The commands that check a download."""
    file = document.variants[0].file
    name = file if ASSET_NAME.fullmatch(file) else "FILE"
    commands = ["sha256sum -c SHA256SUMS", f"python scripts/verify.py --model {name}"]
    if attestation is not None:
        of = f"--repo {attestation.repository} --signer-repo {attestation.signer}"
        commands.insert(1, f"gh attestation verify {name} {of}")
    lines = "\n".join(commands)
    return f"## Verify\n\nIn a folder with every file of this release:\n\n```sh\n{lines}\n```"


def licence_of(model: ModelEntry) -> str:
    """The licence of the weights, as far as it is known here; empty if it is not."""
    if model.source == DEMO:
        return "made from public-domain text"
    return str(known_entry(model.source, model.revision, load_registry()).get("license", ""))


def hub_page(model: ModelEntry, view: str = "tree") -> str:
    """Where weights are to be seen on the Hub at their commit; empty for weights from elsewhere.

    Args:
        model: What they are.
        view: `tree` shows files; `blob`, with a path behind it, one of them.
    """
    on_hub = _HUB_ID.fullmatch(model.source) and _COMMIT.fullmatch(model.revision)
    return f"https://huggingface.co/{model.source}/{view}/{model.revision}" if on_hub else ""


def model_card(model: ModelEntry) -> str:
    """The card of weights on the Hub; see `hub_page`."""
    page = hub_page(model, "blob")
    return page and f"{page}/README.md"


def _licence(model: ModelEntry) -> str:
    """The licence of the weights, and their card on the Hub."""
    known, card = licence_of(model), model_card(model)
    if model.source == DEMO:
        return f"{known}, see `scripts/demo_model/README.md`"
    return ", ".join([code(known) if known else "not known here", *([f"[model card]({card})"] if card else [])])


def _changes(document: Manifest, previous: Manifest) -> str:
    """What is different from the release before."""
    facts = []
    for label, was, now in (
        ("contract version", previous.contract_version, document.contract_version),
        ("source", previous.model.source, document.model.source),
        ("revision", previous.model.revision, document.model.revision),
        ("weights", previous.model.weights_sha256, document.model.weights_sha256),
    ):
        facts.append(f"- {label}: {'unchanged' if was == now else f'{code(was)} → {code(now)}'}")
    before = {entry.name: entry for entry in previous.files}
    after = {entry.name: entry for entry in document.files}
    rows = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if new is None:
            rows.append([code(name), "removed", size_cell(before[name].size_bytes)])
        elif old is None:
            rows.append([code(name), "added", size_cell(new.size_bytes)])
        elif old.sha256 != new.sha256:
            grown = (new.size_bytes - old.size_bytes) / 1e6
            rows.append([code(name), "changed", f"{size_cell(new.size_bytes)} ({grown:+.1f})"])
    table = _limited(["file", "change", "MB"], rows, right=[2]) if rows else "Every file is as it was."
    return f"## Changes since {code(previous.tag)}\n\n" + "\n".join(facts) + f"\n\n{table}"


def _limited(header: Sequence[str], rows: list[list[str]], *, right: Sequence[int]) -> str:
    """A table with a bound on its length."""
    shown = rows[:_MAX_ROWS]
    if len(rows) > _MAX_ROWS:
        shown.append([f"and {len(rows) - _MAX_ROWS} more, see `manifest.json`", *[""] * (len(header) - 1)])
    return markdown_table(header, shown, right=right)
