"""bom.cdx.json: what CycloneDX's own schema accepts, what the manifest says, and nothing of the machine's clock."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from dists import make_dist
from model_release.base.version import TOOL, VERSION
from model_release.contract import manifest, measured
from model_release.contract.manifest import Manifest
from model_release.contract.measured import Measured
from model_release.contract.pinned_models import load_registry
from model_release.release.bom import render_bom
from pages import HOSTILE

PINNED = load_registry()["gpt2"]
FILES = {"model.onnx": b"onnx " * 400, "model.onnx_data": b"data", "config.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of the pinned GPT-2, with a data file beside its model."""
    return make_dist(
        tmp_path / "dist", files=FILES, change=lambda document: document["model"].update(revision=PINNED["revision"])
    )


def read(folder: Path) -> tuple[Manifest, Measured]:
    return manifest.read(folder), measured.read(folder)


def parse(content: bytes) -> Any:
    """A bill of materials that CycloneDX's strict schema accepts."""
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode())
    assert problem is None, problem
    return json.loads(content)


def by_ref(components: list[dict[str, Any]]) -> dict[str, Any]:
    return {component["bom-ref"]: component for component in components}


def facts(component: dict[str, Any]) -> dict[str, str]:
    """Its properties, and its sha256."""
    told = {item["name"].removeprefix(f"{TOOL}:"): item["value"] for item in component["properties"]}
    return told | {item["alg"]: item["content"] for item in component.get("hashes", [])}


def test_the_weights_are_a_model_with_its_commit_files_and_licence(folder: Path) -> None:
    document, figures = read(folder)
    weights = by_ref(parse(render_bom(document, figures))["components"])["weights"]
    repository, commit = PINNED["repository"], PINNED["revision"]
    assert (weights["type"], weights["name"], weights["version"]) == ("machine-learning-model", repository, commit)
    assert weights["purl"] == f"pkg:huggingface/{repository}@{commit}"
    assert weights["licenses"] == [{"license": {"id": PINNED["license"]}}]
    page = f"https://huggingface.co/{repository}"
    assert {item["type"]: item["url"] for item in weights["externalReferences"]} == {
        "distribution": f"{page}/tree/{commit}",
        "model-card": f"{page}/blob/{commit}/README.md",
    }
    assert facts(weights)["weights_sha256"] == document.model.weights_sha256
    (entry,) = document.model.weights
    (file,) = weights["components"]
    assert (file["name"], facts(file)) == (entry.name, {"SHA-256": entry.sha256, "size_bytes": str(entry.size_bytes)})


def test_every_file_has_its_sha256_and_size_and_a_model_what_it_is_made_of(folder: Path) -> None:
    document, figures = read(folder)
    bom = parse(render_bom(document, figures))
    files = {name.removeprefix("file:"): each for name, each in by_ref(bom["components"]).items() if name != "weights"}
    assert files.keys() == {entry.name for entry in document.files}
    for entry in document.files:
        told = facts(files[entry.name])
        assert (told["SHA-256"], told["size_bytes"]) == (entry.sha256, str(entry.size_bytes))
    models = [name for name, each in files.items() if each["type"] == "machine-learning-model"]
    assert models == [variant.file for variant in document.variants]
    assert facts(files["model.onnx"])["precision"] == "fp32"
    needs = {item["ref"]: set(item.get("dependsOn", ())) for item in bom["dependencies"]}
    assert needs["file:model.onnx"] == {"weights", "file:model.onnx_data"}
    assert needs["release"] == {f"file:{name}" for name in files}


def test_it_names_the_tools_and_their_versions(folder: Path) -> None:
    document, figures = read(folder)
    tools = parse(render_bom(document, figures))["metadata"]["tools"]["components"]
    versions = {tool["name"]: tool["version"] for tool in tools}
    assert versions.pop("cyclonedx-python-lib")
    assert versions == {TOOL: VERSION, **figures.made_with}


def test_equal_content_gives_equal_bytes_without_a_date_and_other_content_another_serial_number(folder: Path) -> None:
    document, figures = read(folder)
    content = render_bom(document, figures)
    assert render_bom(document, figures) == content
    assert "timestamp" not in parse(content)["metadata"]
    other = parse(render_bom(document, replace(figures, made_with={"torch": "2.14.0"})))
    assert other["serialNumber"] != parse(content)["serialNumber"]


@pytest.mark.parametrize("source", ["local", "demo", *HOSTILE])
def test_weights_from_anywhere_make_a_valid_one_without_an_address(folder: Path, source: str) -> None:
    document, figures = read(folder)
    document = replace(document, model=replace(document.model, source=source, revision=""))
    weights = by_ref(parse(render_bom(document, replace(figures, made_with={source: source})))["components"])["weights"]
    assert weights["name"] == source
    assert not weights.keys() & {"purl", "externalReferences", "version"}
    assert weights.get("licenses") == (
        [{"license": {"name": "made from public-domain text"}}] if source == "demo" else None
    )


def test_what_a_build_writes_is_a_valid_one_of_its_own_manifest(released: Path) -> None:
    document, figures = read(released)
    content = (released / "bom.cdx.json").read_bytes()
    parse(content)
    assert content == render_bom(document, figures)
    assert "bom.cdx.json" in document.descriptions
