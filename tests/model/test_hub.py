"""Fetching from a hub over real HTTP: what is promised is verified, and what fails fails once and clearly."""

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from huggingface_hub import constants, get_session

from builders import EMBEDDING, gpt2_folder
from model_release.base.errors import ManifestError, UsageError, WeightsError
from model_release.base.retry import RetryPolicy
from model_release.contract.pinned_models import REGISTRY
from model_release.model.weights import hub as hub_room
from model_release.model.weights.folder import Weights, load_folder
from model_release.model.weights.hub import (
    FetchedModel,
    fetch_model,
)
from point_hub import point_hub
from standins.hub import Fault, StandInHub

network = pytest.mark.network
TINY = "someone/tiny-gpt2"
UNPINNED = "someone/unpinned-gpt2"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt")
INDEX = "model.safetensors.index.json"
Fetch = Callable[..., FetchedModel]


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were slept."""
    return []


@pytest.fixture
def retry_policy(waits: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=4, request_timeout_s=5.0, total_timeout_s=60.0, sleep=waits.append)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub with two small models, and the real client pointed at it with an empty cache."""
    for seed, repository in enumerate((TINY, UNPINNED)):
        folder = gpt2_folder(tmp_path / "hub" / repository, seed=seed)
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "README.md", "flax_model.msgpack", "train.py"):
            (folder / name).write_text(f"the content of {name}")
    with StandInHub(tmp_path / "hub") as server:
        point_hub(server.url, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture
def fetch(server: StandInHub, retry_policy: RetryPolicy, tmp_path: Path) -> Fetch:
    """`fetch_model` with the test's retry_policy, and a registry that pins one of the models as `tiny`."""
    registry = tmp_path / "models.json"
    pins = {name: {"sha256": sha256(server.root / TINY / name)} for name in FILES}
    entry = {"repository": TINY, "revision": server.commit(TINY), "license": "MIT", "files": pins}
    registry.write_text(json.dumps({"models": {"tiny": entry}}))
    # The pinned commit stays what it is when a test changes a file.
    (server.root / TINY / ".commit").write_text(server.commit(TINY))

    def call(model: str = "tiny", **options: Any) -> FetchedModel:
        return fetch_model(model, registry=registry, **({"retry_policy": retry_policy} | options))

    return call


def load(fetched: FetchedModel) -> Weights:
    return load_folder(fetched.folder, source=fetched.source, revision=fetched.revision, files=fetched.files)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip_first_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 0xFF]) + content[1:])


def cached(server: StandInHub, name: str, repository: str = TINY) -> Path:
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    return folder / "snapshots" / server.commit(repository) / name


# Fetching


@network
def test_a_registry_name_is_fetched_verified_and_loaded(server: StandInHub, fetch: Fetch) -> None:
    told: list[str] = []
    fetched = fetch(progress=told.append)
    assert (fetched.source, fetched.revision) == (TINY, server.commit(TINY))
    assert fetched.files == set(FILES)
    weights = load(fetched)
    assert (weights.source, weights.revision) == (TINY, server.commit(TINY))
    assert weights.tokenizer_files == ("tokenizer.json", "vocab.json", "merges.txt")
    assert weights.sha256 == sha256(server.root / TINY / "model.safetensors")
    assert weights.tensor(EMBEDDING).shape == (31, 16)
    assert f"Fetching model.safetensors of {TINY}" in told


@network
def test_only_config_weights_and_tokenizer_are_asked_for(server: StandInHub, fetch: Fetch) -> None:
    fetch(UNPINNED)
    folder = f"/{UNPINNED}/resolve/{server.commit(UNPINNED)}"
    assert sorted(server.paths("GET")) == sorted(
        [f"/api/models/{UNPINNED}/revision/main", *(f"{folder}/{name}" for name in FILES)]
    )


@network
def test_a_cached_pinned_model_needs_no_network(server: StandInHub, fetch: Fetch) -> None:
    fetch()
    server.requests.clear()
    assert load(fetch()).blueprint.layers == 2
    assert server.requests == []


@network
@pytest.mark.parametrize("revision", [None, "main", "commit", "short commit"])
def test_a_hub_id_records_the_commit_behind_its_revision(
    server: StandInHub, fetch: Fetch, revision: str | None
) -> None:
    commit = server.commit(UNPINNED)
    asked = {"commit": commit, "short commit": commit[:8]}.get(revision or "", revision)
    fetched = fetch(UNPINNED, revision=asked)
    assert (fetched.source, fetched.revision) == (UNPINNED, commit)


@network
@pytest.mark.parametrize("format", ["sharded", "bin"])
def test_shards_and_pickles_are_fetched_where_there_is_nothing_better(
    server: StandInHub, fetch: Fetch, format: Any
) -> None:
    gpt2_folder(server.root / "someone" / "other", format=format)
    fetched = fetch("someone/other")
    assert load(fetched).tensor(EMBEDDING).shape == (31, 16)
    assert len(fetched.files) == {"sharded": 4, "bin": 2}[format]


@network
def test_the_environment_variables_of_the_client_are_honoured(server: StandInHub, tmp_path: Path) -> None:
    code = f"from model_release.model.weights.hub import fetch_model; print(fetch_model({TINY!r}).folder)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(hub_room.__file__).parents[3]),
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "a-token",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith(str(tmp_path / "home" / "hub"))
    assert result.stderr == ""
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer a-token"}


@network
def test_the_client_is_left_as_it_was_found(fetch: Fetch) -> None:
    fetch()
    assert type(get_session()) is httpx2.Client
    assert not constants.HF_HUB_DISABLE_XET
    assert not constants.HF_HUB_DISABLE_TELEMETRY


# Trust


@network
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "merges.txt"])
def test_a_pin_refuses_a_file_that_changed_on_the_hub(server: StandInHub, fetch: Fetch, name: str) -> None:
    path = server.root / TINY / name
    expected = sha256(path)
    flip_first_byte(path)
    with pytest.raises(ManifestError) as raised:
        fetch()
    assert raised.value.exit_code == 7
    assert f"{name} of {TINY}" in str(raised.value)
    assert f"must have the sha256 {expected}, got {sha256(path)}" in str(raised.value)
    assert not cached(server, name).exists()


@network
def test_a_download_damaged_on_the_way_is_fetched_afresh(server: StandInHub, fetch: Fetch) -> None:
    server.faults.append(Fault("*/model.safetensors", "corrupt", times=1))
    told: list[str] = []
    load(fetch(progress=told.append))
    assert sum(path.endswith("model.safetensors") for path in server.paths("GET")) == 2
    assert any("must have the sha256" in line and "fetching it afresh" in line for line in told)


@network
@pytest.mark.parametrize("model", ["tiny", UNPINNED])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("poison", ["the blob", "the link"])
def test_a_poisoned_cache_is_never_used_and_heals(
    server: StandInHub, fetch: Fetch, tmp_path: Path, model: str, name: str, poison: str
) -> None:
    repository = fetch(model).source
    path = cached(server, name, repository)
    if poison == "the blob":
        flip_first_byte(path)
    else:
        shutil.copy(path, tmp_path / "evil")
        flip_first_byte(tmp_path / "evil")
        path.unlink()
        path.symlink_to(tmp_path / "evil")
    assert load(fetch(model)).source == repository
    assert sha256(path) == sha256(server.root / repository / name)


@network
def test_a_poisoned_cache_is_not_used_when_the_hub_is_away(server: StandInHub, fetch: Fetch) -> None:
    fetch()
    flip_first_byte(cached(server, "model.safetensors"))
    server.faults.append(Fault("*", "503"))
    with pytest.raises(WeightsError, match=r"must answer for model\.safetensors"):
        fetch()
    assert not cached(server, "model.safetensors").exists()


@network
@pytest.mark.parametrize(("name", "label"), [("model.safetensors", "sha256"), ("config.json", "git id")])
def test_without_pins_a_file_must_be_what_the_hub_states(
    server: StandInHub, fetch: Fetch, name: str, label: str
) -> None:
    server.faults.append(Fault(f"*/{name}", "corrupt"))
    with pytest.raises(ManifestError, match=rf"{name} of {UNPINNED} at \w+ must have the {label} \w+, got \w+"):
        fetch(UNPINNED)


@network
def test_the_pins_hold_under_the_hub_id_too(server: StandInHub, fetch: Fetch) -> None:
    flip_first_byte(server.root / TINY / "vocab.json")
    with pytest.raises(ManifestError, match=r"vocab\.json .* the sha256"):
        fetch(TINY, revision=server.commit(TINY)[:10])


@network
def test_another_revision_of_a_registry_name_is_not_pinned(server: StandInHub, fetch: Fetch) -> None:
    flip_first_byte(server.root / TINY / "vocab.json")
    (server.root / TINY / ".commit").write_text("1" * 40)
    assert fetch(revision="main").revision == "1" * 40


@network
def test_a_file_that_somebody_else_put_into_the_cache_is_not_read(fetch: Fetch) -> None:
    fetched = fetch()
    (fetched.folder / "tokenizer_config.json").write_text("unverified")
    assert load(fetch()).tokenizer_files == ("tokenizer.json", "vocab.json", "merges.txt")


# Faults and patience


@network
@pytest.mark.parametrize("kind", ["503", "reset"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/*"), ("HEAD", "*/config.json"), ("GET", "*/model.safetensors")]
)
def test_passing_faults_are_waited_out(
    server: StandInHub, fetch: Fetch, waits: list[float], path: str, kind: str, method: str
) -> None:
    server.faults.append(Fault(path, kind, times=2, method=method))
    told: list[str] = []
    load(fetch(TINY, progress=told.append))
    assert len(waits) == 2
    assert 1 <= waits[0] <= 2 <= waits[1] <= 4
    assert sum("; attempt " in line for line in told) == 2


@network
def test_a_hub_that_stays_away_ends_in_one_sentence(server: StandInHub, fetch: Fetch, waits: list[float]) -> None:
    server.faults.append(Fault("*", "503"))
    with pytest.raises(WeightsError) as raised:
        fetch(TINY)
    assert raised.value.exit_code == 5
    for part in (server.url, "status 503", "attempts: 4", "--model-path", TINY):
        assert part in str(raised.value)
    assert len(server.requests) == 4
    assert len(waits) == 3


@network
def test_an_unreachable_hub_names_the_endpoint_without_its_login(
    retry_policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    point_hub(f"http://user:secret@127.0.0.1:{port}", tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match=rf"http://127\.0\.0\.1:{port} must answer for gpt2.*attempts: 4") as raised:
        fetch_model("gpt2-medium", retry_policy=retry_policy)
    assert "secret" not in str(raised.value)


@network
def test_retry_after_is_honoured(server: StandInHub, fetch: Fetch, waits: list[float]) -> None:
    server.faults.append(Fault("*/merges.txt", "429", times=1, retry_after="7"))
    fetch()
    assert waits == [7.0]


@network
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_retry_after_beyond_all_patience_ends_at_once(
    server: StandInHub, fetch: Fetch, waits: list[float], method: str
) -> None:
    server.faults.append(Fault("*/config.json", "429", method=method, retry_after="86400"))
    with pytest.raises(WeightsError, match=r"status 429; the next attempt would be in 86400 s, .* \(attempts: 1\)"):
        fetch()
    assert waits == []


@network
def test_a_body_that_breaks_off_is_resumed(
    server: StandInHub, fetch: Fetch, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    server.faults.append(Fault("*/model.safetensors", "truncate", times=1))
    fetch()
    ranges = [request.headers["range"] for request in server.requests if "range" in request.headers]
    assert ranges == ["bytes=15000-"]
    assert waits == []


@network
@pytest.mark.parametrize("path", ["/api/*", "*/config.json"])
def test_a_silent_hub_is_given_up(server: StandInHub, fetch: Fetch, retry_policy: RetryPolicy, path: str) -> None:
    server.faults.append(Fault(path, "hang"))
    with pytest.raises(WeightsError, match=r"got: .*timed out.* \(attempts: 4\)"):
        fetch(TINY, retry_policy=replace(retry_policy, request_timeout_s=0.1))


@network
@pytest.mark.parametrize("path", ["/api/*", "*/model.safetensors"])
def test_a_dripping_body_ends_at_the_deadline(
    server: StandInHub, fetch: Fetch, retry_policy: RetryPolicy, path: str
) -> None:
    server.faults.append(Fault(path, "drip"))
    with pytest.raises(WeightsError, match=r"(did not end|no answer) in time"):
        fetch(TINY, retry_policy=replace(retry_policy, total_timeout_s=0.3))


@network
@pytest.mark.parametrize("status", ["401", "403", "404"])
@pytest.mark.parametrize("path", ["/api/*", "*/config.json"])
def test_a_refusal_is_not_repeated(
    server: StandInHub, fetch: Fetch, waits: list[float], path: str, status: str
) -> None:
    server.faults.append(Fault(path, status))
    with pytest.raises(WeightsError, match=f"got {status}: not found, private or gated.*HF_TOKEN"):
        fetch(TINY)
    assert waits == []
    assert sum(path.strip("*") in request.path for request in server.requests) == 1


@network
@pytest.mark.parametrize(("model", "revision"), [("nobody/nothing", None), (TINY, "no-such-branch"), (TINY, "f" * 40)])
def test_a_model_or_revision_that_is_not_there_is_refused(fetch: Fetch, model: str, revision: str | None) -> None:
    with pytest.raises(WeightsError, match=f"{model} at {revision or 'main'} must be open to us .* not found"):
        fetch(model, revision=revision)


@network
def test_a_pinned_file_that_the_hub_no_longer_has_is_refused(server: StandInHub, fetch: Fetch) -> None:
    (server.root / TINY / "merges.txt").unlink()
    with pytest.raises(WeightsError, match=r"merges\.txt of .* got 404"):
        fetch()


@network
@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"README.md": ""}, "must have config.json and model.safetensors or pytorch_model.bin, got 1 files"),
        ({"config.json": "{}"}, "must have config.json and model.safetensors or pytorch_model.bin"),
        (
            {"config.json": "{}", INDEX: '{"weight_map": {"a": "../evil"}}'},
            "must name shards as",
        ),
        ({"config.json": "{}", INDEX: '{"weight_map": {"a": "b.safetensors"}}'}, "each shard"),
    ],
    ids=["no config", "no weights", "hostile index", "missing shard"],
)
def test_a_repository_that_holds_no_model_is_refused(
    server: StandInHub, fetch: Fetch, files: dict[str, str], sentence: str
) -> None:
    folder = server.root / "someone" / "broken"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(WeightsError, match=sentence):
        fetch("someone/broken")


@network
@pytest.mark.parametrize("answer", [b"<html>Please log in</html>", b"[1]", b'{"id": "a"}', b"null", b'{"siblings": 1}'])
def test_an_endpoint_that_is_no_hub_is_one_sentence(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr("standins.hub._Handler._api", lambda self, *_: self._send(200, {}, answer, None))
    with pytest.raises(WeightsError, match=r"as a hub does, got .* Check HF_ENDPOINT"):
        fetch(TINY)


@network
def test_offline_mode_uses_what_is_cached_and_says_what_is_not(
    server: StandInHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch()
    server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load(fetch())
    cached(server, "vocab.json").unlink()
    with pytest.raises(WeightsError, match=r"vocab\.json of .* must be cached while HF_HUB_OFFLINE is set"):
        fetch()
    flip_first_byte(cached(server, "config.json"))
    with pytest.raises(ManifestError, match=r"config\.json of .* must have the sha256 .* in the cache. Remove it"):
        fetch()
    assert server.requests == []


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, retry_policy: RetryPolicy) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_room, "hf_hub_download", full)
    with pytest.raises(WeightsError, match="cache in HF_HOME must be writable, got: No space left"):
        fetch_model("gpt2", retry_policy=retry_policy)


# Names


@pytest.mark.parametrize(
    "model",
    [
        "",
        "..",
        "../x",
        "a/../b",
        "a/b/c",
        "/etc",
        "a b",
        "a\n",
        "a;b",
        "a--b",
        "$(x)",
        "http://a/b",
        "ü",
        "-a",
        "a" * 97,
    ],
)
def test_a_model_that_is_no_id_is_refused_before_anything_is_asked(model: str) -> None:
    with pytest.raises(UsageError, match="must be a registry name or a hub id"):
        fetch_model(model)


@pytest.mark.parametrize("revision", ["", "../x", "a..b", "/a", "a b", "$(x)", "a\n", "a" * 300])
def test_a_revision_that_is_none_is_refused(revision: str) -> None:
    with pytest.raises(UsageError, match="must be a branch, tag or commit"):
        fetch_model("gpt2", revision=revision)


def test_the_registry_fits_its_schema() -> None:
    schema = json.loads(REGISTRY.with_name("models.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(REGISTRY.read_text()), schema)


def test_the_registry_pins_gpt2() -> None:
    entry = json.loads(REGISTRY.read_text())["models"]["gpt2"]
    assert entry["repository"] == "openai-community/gpt2"
    assert entry["files"]["model.safetensors"]["size_bytes"] == 548_105_171
