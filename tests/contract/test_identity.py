"""What a release is, apart from how it is described."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dists import make_dist
from model_release.contract import manifest
from model_release.contract.activations import load_contract
from model_release.contract.identity import first_difference, identity
from model_release.contract.manifest import Manifest
from model_release.model.precision.quantize import CALIBRATED

FILES = {"model.onnx": b"onnx " * 400, "model_small.onnx": b"small" * 9, "report.html": b"<p>", "config.json": b"{}"}


def made(
    folder: Path,
    files: dict[str, bytes] = FILES,
    *,
    measure: Callable[[dict[str, Any]], None] = lambda _: None,
    **changes: Any,
) -> Manifest:
    """A manifest with a calibrated precision and a report; `changes` replace its keys."""

    def change(document: dict[str, Any]) -> None:
        small = {**document["variants"][0], "file": "model_small.onnx", "precision": "small", "size_bytes": 45}
        document["variants"].append(small)
        for key, value in changes.items():
            document[key] = value(document[key]) if callable(value) else value

    return manifest.read(make_dist(folder, files=files, change=change, measure=measure))


def test_what_another_machine_measures_makes_no_other_release(tmp_path: Path) -> None:
    def measure(figures: dict[str, Any]) -> None:
        figures["made_with"] = {"torch": "2.13.0+cpu"}
        for model in figures["models"]:
            model["agreement"]["mean_kl_nats"] = 2e-7
            model |= {
                "clauses": ["C1"],
                "deviations": [{"kind": "logits", "max_abs": 2e-5, "relative": 3e-6, "cosine": 0.9999}],
                "backends": [{"backend": "webgpu", "runs": False, "reason": "no adapter"}],
            }

    one = made(tmp_path / "one")
    files = {**FILES, "report.html": b"<p>other digits</p>"}
    other = made(tmp_path / "other", files, measure=measure)
    read = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "other")]
    assert read[0] == read[1], "nothing of it is in the manifest"
    assert first_difference(identity(one), identity(other)) == ""


def test_other_bytes_of_a_calibrated_precision_make_no_other_release(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", {**FILES, "model_small.onnx": b"SMALL" * 9})
    assert one != other
    assert first_difference(identity(one), identity(other)) == ""


def test_another_size_of_a_fitted_file_makes_no_other_release(tmp_path: Path) -> None:
    """Widths follow what is measured, which may differ in the last digits."""

    def fitted(variants: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*variants[:-1], variants[-1] | {"fitted": True}]

    one = made(tmp_path / "one", variants=fitted)
    other = made(tmp_path / "other", {**FILES, "model_small.onnx": b"small" * 8}, variants=fitted)
    assert first_difference(identity(one), identity(other)) == ""


@pytest.mark.parametrize(
    ("files", "changes", "difference"),
    [
        ({"model.onnx": b"other" * 400}, {}, "model.onnx: sha256 "),
        ({"model_small.onnx": b"small"}, {}, "model_small.onnx: 45 bytes in the release, 5 bytes here"),
        ({"vocab.json": b"{}"}, {}, "vocab.json: none in the release, sha256 "),
        ({}, {"contract_version": "1.1.0"}, "contract version: 1.0.0 in the release, 1.1.0 here"),
        (
            {},
            {"model": lambda model: model | {"shape": {"context": 512}}},
            "context: none in the release, 512 here",
        ),
        (
            {},
            {"selection": lambda selection: selection | {"layers": [0, 11]}},
            "layers: 11 in the release, 0,11 here",
        ),
        (
            {},
            {"selection": lambda selection: selection | {"cache": True}},
            "keys and values: none in the release, in and out here",
        ),
        (
            {},
            {"delivery": lambda delivery: delivery | {"fit_bytes": 40_000_000}},
            "fitted to: none in the release, 40000000 bytes here",
        ),
        (
            {},
            {"selection": lambda selection: selection | {"interventions": True}},
            "interventions: none in the release, in here",
        ),
        (
            {"model.onnx": b"other" * 400},  # What was asked is told before what followed from it.
            {"model": lambda model: model | {"weights_sha256": "1" * 64}},
            "sha256 of the weights: 000",
        ),
        ({}, {"variants": lambda variants: variants[:1]}, "precisions: fp32,small in the release, fp32 here"),
    ],
)
def test_the_first_real_difference_is_named(
    tmp_path: Path, files: dict[str, bytes], changes: dict[str, Any], difference: str
) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", FILES | files, **changes)
    assert first_difference(identity(one), identity(other)).startswith(difference)


def test_a_precision_is_calibrated_where_its_codec_looks_at_a_text() -> None:
    assert {name for name, row in load_contract().precisions.items() if row.calibrated} == set(CALIBRATED)


def test_every_key_of_a_manifest_is_identity_or_description() -> None:
    described = {"variants", "descriptions"}  # Of variants, `files` and `precisions` count.
    known = {"tag", "version", "name", "contract_version", "model", "selection", "delivery", "files", "asset_prefix"}
    assert set(manifest.Manifest.__dataclass_fields__) == known | described
