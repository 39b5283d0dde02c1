"""Pinning: what the Hub has of a model becomes its entry of the registry, and nothing else does."""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import cli
from builders import gpt2_folder
from commands import call
from model_release.base.errors import ManifestError, UsageError, WeightsError
from model_release.base.retry import RetryPolicy
from model_release.contract.pinned_models import REGISTRY, load_registry
from model_release.model.weights import pin
from model_release.model.weights.hub import fetch_model
from model_release.model.weights.pin import pin_models
from point_hub import point_hub
from standins.hub import Fault, StandInHub

pytestmark = pytest.mark.network

NOTHING_IS_WAITED_FOR = RetryPolicy(attempts=2, request_timeout_s=5.0, total_timeout_s=30.0, sleep=lambda _: None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub with three models, one in shards; the real client with an empty cache."""
    for seed, name in enumerate(("small", "other", "sharded")):
        layout: Any = "sharded" if name == "sharded" else "safetensors"
        folder = gpt2_folder(tmp_path / "hub" / "someone" / name, seed=seed, format=layout)
        (folder / "merges.txt").write_text("merges")
    with StandInHub(tmp_path / "hub") as server:
        point_hub(server.url, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """One that names these models, and knows no commit."""
    models = {
        "small": {"repository": "someone/small", "license": "MIT", "layers": 40},
        "other": {"repository": "someone/other"},
        "sharded": {"repository": "someone/sharded", "gated": True},
    }
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"$schema": "models.schema.json", "models": models}, indent=2) + "\n")
    return path


def pinned(names: str, registry: Path, **options: Any) -> bool:
    return pin_models(names, registry=registry, retry_policy=NOTHING_IS_WAITED_FOR, **options)


def schema() -> Any:
    return json.loads(REGISTRY.with_name("models.schema.json").read_text())


def test_a_pin_is_the_commit_and_the_bytes_of_every_file(hub: StandInHub, registry: Path) -> None:
    assert pinned("small", registry)
    entry = load_registry(registry)["small"]
    folder = hub.root / "someone" / "small"
    assert list(entry) == ["repository", "revision", "license", "layers", "parameters", "files"]
    assert (entry["revision"], entry["license"]) == (hub.commit("someone/small"), "MIT")
    assert entry["layers"] == 2, "the model's own number takes the place of a wrong one"
    assert entry["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name in ("config.json", "merges.txt", "model.safetensors")
        if (content := (folder / name).read_bytes())
    }
    jsonschema.validate(json.loads(registry.read_text()), schema())
    assert "revision" not in load_registry(registry)["other"]


def test_what_is_pinned_is_fetched_by_its_name_and_must_be_that(hub: StandInHub, registry: Path) -> None:
    pinned("sharded", registry)
    fetched = fetch_model("sharded", registry=registry, retry_policy=NOTHING_IS_WAITED_FOR)
    assert fetched.files == load_registry(registry)["sharded"]["files"].keys()
    assert any(name.startswith("model-0") for name in fetched.files), "its shards among them"
    (hub.root / "someone" / "sharded" / ".commit").write_text(fetched.revision)
    (hub.root / "someone" / "sharded" / "merges.txt").write_text("MERGES")
    (fetched.folder / "merges.txt").unlink()
    with pytest.raises(ManifestError, match=r"merges\.txt .* must have the sha256"):
        pinned("sharded", registry)


def test_all_that_are_unpinned_are_pinned_at_once_and_a_second_run_changes_nothing(
    hub: StandInHub, registry: Path
) -> None:
    assert pinned("unpinned", registry)
    text = registry.read_text()
    assert all("revision" in entry for entry in json.loads(text)["models"].values())
    assert text.startswith('{\n  "$schema": "models.schema.json",\n  "models": {\n    "small": {\n')
    before = registry.stat()
    assert not pinned("unpinned", registry)
    assert not pinned("small, someone/other,sharded", registry)
    assert (registry.read_text(), registry.stat().st_ino) == (text, before.st_ino)
    assert hub.requests


def test_a_pin_moves_only_where_it_is_told_to(hub: StandInHub, registry: Path) -> None:
    pinned("small", registry)
    at = hub.commit("someone/small")
    (hub.root / "someone" / "small" / ".commit").write_text("1" * 40)
    assert not pinned("small", registry)
    assert load_registry(registry)["small"]["revision"] == at
    assert pinned("small", registry, revision="main")
    assert load_registry(registry)["small"]["revision"] == "1" * 40
    with pytest.raises(UsageError, match="--revision belongs to one model"):
        pinned("small,other", registry, revision="main")


def test_a_model_that_cannot_be_had_keeps_no_other_from_being_pinned(hub: StandInHub, registry: Path) -> None:
    hub.faults.append(Fault("*someone/sharded*", "403"))
    told: list[str] = []
    with pytest.raises(WeightsError, match=r"not pinned: sharded\. .* got 403: not found, private or gated.*HF_TOKEN"):
        pinned("unpinned", registry, progress=told.append)
    known = load_registry(registry)
    assert {name for name, entry in known.items() if "revision" in entry} == {"small", "other"}
    assert known["sharded"] == {"repository": "someone/sharded", "gated": True}
    assert any(line.startswith("small is at ") for line in told)


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("*", "503", "must answer for someone/small at main"),
        ("*/merges.txt", "404", r"merges\.txt of someone/small must be open"),
    ],
)
def test_a_hub_that_is_away_or_lacks_a_file_leaves_the_registry_alone(
    hub: StandInHub, registry: Path, path: str, kind: str, says: str
) -> None:
    before = registry.read_bytes()
    hub.faults.append(Fault(path, kind))
    with pytest.raises(WeightsError, match=says):
        pinned("small", registry)
    assert registry.read_bytes() == before


def test_a_model_that_cannot_be_released_is_not_pinned(hub: StandInHub, registry: Path) -> None:
    config = hub.root / "someone" / "small" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "mpt"}))
    before = registry.read_bytes()
    with pytest.raises(WeightsError, match="mpt"):
        pinned("small", registry)
    assert registry.read_bytes() == before


@pytest.mark.parametrize("names", ["gpt3", "small,", "", "../x", "small;id", "unpinned,small"])
def test_a_name_that_the_registry_has_not_is_refused(registry: Path, names: str) -> None:
    with pytest.raises(UsageError, match=r"--pin must be names of contract/models\.json or unpinned"):
        pinned(names, registry)


def test_the_command_says_whether_there_is_something_to_commit(
    hub: StandInHub, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.requests == []
    monkeypatch.setattr(pin, "pin_models", functools.partial(pin_models, registry=registry))
    first, second = call(cli.weights, "--pin", "small"), call(cli.weights, "--pin", "small")
    assert (first.code, first.out) == (0, "contract/models.json is changed: commit it\n")
    assert (second.code, second.out) == (0, "contract/models.json says so already\n")
    assert call(cli.weights, "--pin", "small", "--model", "gpt2").code == 2


def test_an_unpinned_model_is_fetched_with_one_warning(hub: StandInHub, registry: Path) -> None:
    assert hub.requests == []
    told: list[str] = []
    fetch_model("other", registry=registry, retry_policy=NOTHING_IS_WAITED_FOR, progress=told.append)
    assert [line for line in told if "warning" in line] == [
        "warning: someone/other is not pinned in models.json; its files are what the Hub has now"
    ]


def test_every_entry_of_the_registry_is_pinned_whole_or_says_that_it_is_not() -> None:
    models = load_registry()
    assert {"gpt2", "distilgpt2", "smollm2-135m", "qwen3-0.6b", "gemma-3-270m", "tinystories-1m"} <= models.keys()
    for entry in models.values():
        assert entry["layers"] > 0
        assert entry["parameters"] > 0
    half = {"models": {"a": {"repository": "b/c", "revision": "1" * 40}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(half, schema())
