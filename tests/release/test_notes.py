"""Notes of a release and the card of its model: what they say, of whatever text they are made."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cli
from commands import call
from dists import REPOSITORY, TAG, make_dist
from model_release.base.github_limits import MAX_NOTES_CHARACTERS
from model_release.contract import manifest, measured
from model_release.contract.pinned_models import load_registry
from model_release.release.notes import render_card, render_notes

HOSTILE = "x` \\| @someone #1 <img src=x onerror=alert(1)> ![](https://evil.example)\n# Heading\n```\n\x1b[31m"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return make_dist(tmp_path / "dist")


def test_notes_say_how_to_check_who_built_it_and_are_printed_offline(
    dist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    asked = ["--dist", str(dist), "--tag", TAG, "--notes"]
    plain = call(cli.publish, *asked)
    assert plain.code == 0, plain.err
    assert "gh attestation verify" not in plain.out
    signed = call(cli.publish, *asked, "--signer-repo", "someone/see-through")
    line = f"gh attestation verify model.onnx --repo {REPOSITORY} --signer-repo someone/see-through"
    assert signed.out == plain.out.replace("sha256sum -c SHA256SUMS\n", f"sha256sum -c SHA256SUMS\n{line}\n")
    refused = call(cli.publish, *asked, "--signer-repo", "$(id)")
    assert (refused.code, "--signer-repo must be OWNER/NAME" in refused.error) == (2, True)


def test_notes_name_the_licence_and_the_card_of_known_weights(tmp_path: Path) -> None:
    known = load_registry()["gpt2"]
    for source, revision, line in (
        (
            known["repository"],
            known["revision"],
            f"`MIT`, [model card](https://huggingface.co/{known['repository']}/blob/{known['revision']}/README.md)",
        ),
        ("demo", "", "made from public-domain text, see `scripts/demo_model/README.md`"),
        ("folder /models/mine", "", "not known here"),
    ):
        folder = make_dist(tmp_path / source.replace("/", "-"))
        document = manifest.read(folder)
        document = replace(document, model=replace(document.model, source=source, revision=revision))
        notes = render_notes(document, {"": measured.read(folder)})
        assert f"| licence of the weights | {line} |" in notes.splitlines()


def test_notes_say_where_a_precision_is_best_if_that_is_not_plain(tmp_path: Path) -> None:
    folder = make_dist(tmp_path / "dist")
    document, figures = manifest.read(folder), measured.read(folder)
    best = "int4-compute`: The least memory"
    assert best not in render_notes(document, {"": figures})
    first, *others = document.variants
    large = replace(document, variants=(replace(first, precision="int4-compute"), *others))
    assert f"- `{best}" in render_notes(large, {"": figures})


def test_the_card_says_once_what_holds_everywhere(dist: Path) -> None:
    card = render_card(manifest.read(dist), measured.read(dist))
    assert "- clauses that hold in every model file: C1 C2" in card.splitlines()


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    def hostile(document: dict[str, Any]) -> None:
        document["model"].update(source=HOSTILE, revision=HOSTILE * 99)
        document["selection"]["activations"] = [HOSTILE]
        document["variants"][0].update(precision=HOSTILE, file="`; rm -rf ~")
        document["files"][0]["name"] = HOSTILE

    def measure(figures: dict[str, Any]) -> None:
        figures["models"][0]["agreement"]["text"] = HOSTILE
        figures["made_with"] = {HOSTILE: HOSTILE}

    folder = make_dist(tmp_path / "dist", change=hostile, measure=measure)
    document = manifest.read(folder)
    notes = render_notes(document, {"": measured.read(folder)}, document)
    assert "\x1b" not in notes
    assert [line for line in notes.splitlines() if line.startswith("#")] == [
        "## Files",
        "## Origin",
        "## Verify",
        f"## Changes since `{TAG}`",
    ]
    assert "rm -rf" not in notes
    # What CommonMark takes for code is text to GitHub: no link, mention, image or HTML.
    outside = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", notes)
    assert not [text for text in ("@", "#1", "<img", "evil", "[") if text in outside]
    assert "¦" in notes, "a bar would end a table's cell, even in code and behind a backslash"


def test_notes_are_never_too_long(tmp_path: Path) -> None:
    folder = make_dist(tmp_path / "dist")
    small = manifest.read(folder)
    files = [replace(small.files[0], name=f"{number}-{'n' * 180}") for number in range(2000)]
    selection = replace(small.selection, activations=("a" * 5000,) * 5000)
    document = replace(small, files=(*small.files, *files), selection=selection)
    old = replace(document, files=tuple(replace(entry, name=f"old-{entry.name}") for entry in document.files))
    notes = render_notes(document, {"": measured.read(folder)}, old)
    assert len(notes) < MAX_NOTES_CHARACTERS * 0.8
    assert "more, see `manifest.json`" in notes
