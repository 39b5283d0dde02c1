"""A mirror in a repository of the Hub: one commit, found again, whatever goes wrong on the way."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fault_share import FULL, kinds_at
from mirrors import APP, MIRROR, make_repository, mirror_hub, release_folder
from model_release.base.errors import HostError, UsageError
from model_release.base.http import Web
from model_release.base.hub_client import bounded
from model_release.base.retry import RetryPolicy
from model_release.contract.dist import check_dist
from model_release.contract.manifest import CHECKSUMS_NAME
from model_release.contract.tag import parse_tag
from model_release.contract.transformers_js import ASKED_FOR
from model_release.hosts.mirror import AppMirror
from model_release.hosts.mirror_hub import HubMirror
from small_release import MODEL, TAG, sha256
from standins.hub import Fault, Request, StandInHub
from standins.hub_uploads import History

pytestmark = pytest.mark.network
QUICK = RetryPolicy(request_timeout_s=2, total_timeout_s=20, sleep=lambda _: None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandInHub]:
    """A hub with a repository that has a README."""
    with mirror_hub(tmp_path) as server:
        yield server


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return release_folder(tmp_path)


def upload(dist: Path, told: list[str] | None = None) -> str:
    checked = check_dist(dist, parse_tag(TAG))
    place = HubMirror(f"hub:{MIRROR}", retry_policy=QUICK, progress=(told if told is not None else []).append)
    return AppMirror(mirror=place, web=Web(timeout_s=2), origin=APP, retry_policy=QUICK)(
        checked.document, dist, checked.entries, was_public=False
    )


def writes(server: StandInHub) -> list[str]:
    """The paths that change something: uploads and commits."""
    return [request.path for request in server.requests if request.method == "PUT" or "/commit/" in request.path]


def test_a_release_is_one_commit_and_the_url_names_it(server: StandInHub, dist: Path) -> None:
    url = upload(dist)
    history = server.history(MIRROR)
    assert history is not None
    assert len(history.commits) == 2
    assert url == f"{server.url}/{MIRROR}/resolve/{history.head}/{TAG}/model_fp16.onnx?v=1.2.0-{sha256(MODEL)[:8]}"
    held = {name: file.path.read_bytes() for name, file in history.commits[history.head].items()}
    of_tag = {f"{TAG}/{path.name}": path.read_bytes() for path in dist.iterdir()}
    assert {name: content for name, content in held.items() if name.startswith(TAG)} == of_tag
    assert held["README.md"] == b"Models.\n"
    assert history.tags == {TAG: history.head}


def test_a_second_run_writes_nothing_even_after_others_committed(server: StandInHub, dist: Path) -> None:
    url = upload(dist)
    history = server.history(MIRROR)
    assert history is not None
    history.commits["f" * 40] = {**history.commits[history.head], "new.txt": history.commits[history.head]["README.md"]}
    server.requests.clear()
    assert upload(dist) == url
    assert writes(server) == []


def test_what_others_change_later_does_not_touch_the_url(server: StandInHub, dist: Path) -> None:
    url = upload(dist)
    history = server.history(MIRROR)
    assert history is not None
    files = history.commits[history.head]
    history.commits["e" * 40] = {**files, f"{TAG}/model_fp16.onnx": files["README.md"]}
    assert upload(dist) == url


def test_a_release_that_others_removed_or_half_wrote_is_put_right(server: StandInHub, dist: Path) -> None:
    history = server.history(MIRROR)
    assert history is not None
    upload(dist)
    files = history.commits[history.head]
    checksums = replace(files[f"{TAG}/{CHECKSUMS_NAME}"], commit="e" * 40)
    history.commits["e" * 40] = {"README.md": files["README.md"], f"{TAG}/{CHECKSUMS_NAME}": checksums}
    second = upload(dist)
    assert f"/resolve/{history.head}/" in second
    assert history.commits[history.head][f"{TAG}/model_fp16.onnx"].path.read_bytes() == MODEL
    assert upload(dist) == second


def test_what_a_try_left_goes_with_the_release_s_own_commit(server: StandInHub, dist: Path) -> None:
    history = server.history(MIRROR)
    assert history is not None
    files = history.commits[history.head]
    history.commits["e" * 40] = {
        **files,
        f"{TAG}/of_a_try.onnx": files["README.md"],
        f"{TAG}-rc.1/kept": files["README.md"],
    }
    upload(dist)
    held = {name for name in history.commits[history.head] if name.startswith(TAG)}
    assert held == {f"{TAG}-rc.1/kept"} | {f"{TAG}/{path.name}" for path in dist.iterdir()}
    assert len(history.commits) == 3


def in_root(history: History) -> dict[str, bytes]:
    """What the newest commit has beside the folders of releases and what was there before."""
    files = history.commits[history.head]
    return {
        name: file.path.read_bytes()
        for name, file in files.items()
        if not name.startswith("model-v") and name != "README.md"
    }


def test_the_root_is_what_transformers_js_looks_for_and_the_release_s_tag_names_it(
    server: StandInHub, dist: Path
) -> None:
    history = server.history(MIRROR)
    assert history is not None
    files = history.commits[history.head]
    of_ours = replace(files["README.md"], title=f"Release {TAG}-rc.1")
    history.commits["e" * 40] = {
        **files,
        "config.json": of_ours,
        "merges.txt": of_ours,
        "onnx/model_int4.onnx": of_ours,
    }
    history.tags[TAG] = "e" * 40
    upload(dist)
    released = {path.name: path.read_bytes() for path in dist.iterdir()}
    models = {f"onnx/{name}": released[name] for name in released if name.endswith(".onnx")}
    without_dtype = {"onnx/model_quantized.onnx": released["model_fp16.onnx"]}  # The file that the app gets.
    beside = {name: released[name] for name in ("config.json", "tokenizer.json", "vocab.json", "merges.txt")}
    assert in_root(history) == models | without_dtype | beside | dict.fromkeys(ASKED_FOR, b"{}\n")
    assert history.tags == {TAG: history.head}
    large = [request for request in server.requests if request.method == "PUT"]
    assert len(large) == len({request.path for request in large}), "nothing is uploaded twice"


def test_a_repository_that_holds_a_model_of_its_own_keeps_it(server: StandInHub, dist: Path) -> None:
    history, told = server.history(MIRROR), list[str]()
    assert history is not None
    files = history.commits[history.head]
    history.commits["e" * 40] = {**files, "config.json": files["README.md"]}
    upload(dist, told)
    assert in_root(history) == {"config.json": b"Models.\n"}
    assert f"warning: {MIRROR} has a config.json of its own, so from_pretrained of transformers.js" in " ".join(told)


def requests_of_a_clean_run(tmp_path: Path) -> list[tuple[str, str]]:
    """Method and path of each distinct request, the commit's name left open."""
    found: dict[tuple[str, str], None] = {}
    with StandInHub(tmp_path / "hub") as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        patch.setenv("HF_TOKEN", "x")
        upload(release_folder(tmp_path))
        for request in server.requests:
            found[request.method, re.sub(r"[0-9a-f]{40}(?![0-9a-f])", "*", request.path)] = None
    return list(found)


KINDS = ["reset", "lost", "500", "503", "429", "truncate", "hang"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_of_any_request_loses_the_mirror(tmp_path: Path, kind: str) -> None:
    make_repository(tmp_path)
    injected = 0
    for number, (method, path) in enumerate(requests_of_a_clean_run(tmp_path)):
        if "/resolve/" in path and kind in {"lost", "hang"}:
            continue  # The probe's own requests, tested with it.
        if kind not in kinds_at(number, KINDS, always="lost"):
            continue
        root = tmp_path / f"{kind}-{number}"
        make_repository(root)
        with StandInHub(root / "hub") as server, pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
            patch.setitem(globals(), "QUICK", RetryPolicy(request_timeout_s=0.3, sleep=lambda _: None))
            patch.setenv("HF_TOKEN", "x")
            server.faults.append(Fault(path=path, method=method, kind=kind, times=1))
            dist = release_folder(root)
            url = upload(dist)
            history = server.history(MIRROR)
            assert history is not None
            assert f"/resolve/{history.head}/" in url
            assert len(history.commits) == 2, f"{kind} at {method} {path} made another commit"
            injected += server.faults[0].times == 0
            assert upload(dist) == url
    assert injected >= (4 if FULL else 3)


def test_somebody_elses_commit_meanwhile_is_kept(server: StandInHub, dist: Path) -> None:
    history = server.history(MIRROR)
    assert history is not None
    readme = history.commits[history.head]["README.md"]

    def commit_once(request: Request) -> None:
        if "/commit/" in request.path and "d" * 40 not in history.commits:
            history.commits["d" * 40] = {"README.md": readme, "theirs.txt": readme}

    server.meanwhile = commit_once
    url = upload(dist)
    assert f"/resolve/{history.head}/" in url
    assert len([request for request in server.requests if "/commit/" in request.path]) == 2
    assert {"theirs.txt", f"{TAG}/model_fp16.onnx"} <= history.commits[history.head].keys()


@pytest.mark.usefixtures("server")
def test_a_repository_that_is_not_there_is_one_sentence(dist: Path) -> None:
    checked = check_dist(dist, parse_tag(TAG))
    place = HubMirror("hub:octocat/nothing", retry_policy=QUICK)
    with pytest.raises(HostError, match=r"octocat/nothing must be open to us.*Create the model repository"):
        place.upload(checked.document, dist, checked.entries, was_public=False)


def test_a_token_that_may_not_write_is_one_sentence(server: StandInHub, dist: Path) -> None:
    server.faults.append(Fault(path="*/commit/*", kind="403"))
    with pytest.raises(HostError, match=r"got 403.*HF_TOKEN to a token that may write"):
        upload(dist)
    assert CHECKSUMS_NAME not in str(server.history(MIRROR))


def test_the_token_is_told_to_nobody(server: StandInHub, dist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    server.faults.append(Fault(path="*/commit/*", kind="503", times=1))
    upload(dist, told)
    assert told
    assert "hf_secret" not in "".join(told) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "target", ["hub:", "hub:gpt2", "hub:a/b/c", "hub:../x", "hub:a/..", "hub:a b/c", "hub:a/$(id)", "hub:a/b\n"]
)
def test_what_is_no_repository_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="hub:ORG/REPO"):
        HubMirror(target)


def test_our_client_leaves_the_librarys_own_in_place() -> None:
    from huggingface_hub import get_session

    with bounded(QUICK):
        ours = type(get_session())
    assert type(get_session()) is not ours
