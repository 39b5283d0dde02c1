"""A folder that is to be released: what its manifest does not say is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dists import TAG, make_dist
from model_release.base.errors import ManifestError
from model_release.contract.dist import check_dist
from model_release.contract.tag import parse_tag
from model_release.hosts.local import LocalHost
from model_release.release.publish import publish


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return make_dist(tmp_path / "dist")


def add(name: str) -> Callable[[Path], object]:
    return lambda dist: (dist / name).write_bytes(b"x")


def remove(name: str) -> Callable[[Path], object]:
    return lambda dist: (dist / name).unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (add("extra.txt"), "'extra.txt' is not listed"),
        (add(".hidden"), "'.hidden' is not listed"),
        (add("ü\n$(touch x)"), r"'\\xfc\\n\$\(touch x\)' is not listed"),
        (remove("config.json"), "'config.json' is missing"),
        (remove("SHA256SUMS"), "must be a folder with manifest.json and SHA256SUMS"),
        pytest.param(
            *(remove("manifest.json"), "must be a folder with manifest.json and SHA256SUMS"), id="without its manifest"
        ),
        (add("config.json"), "'config.json' has other bytes"),
        (add("SHA256SUMS"), "SHA256SUMS has other sums"),
        (add("manifest.json"), "manifest.json must be JSON"),
    ],
)
def test_a_folder_that_is_not_what_its_manifest_says_is_refused(
    dist: Path, harm: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    harm(dist)
    with pytest.raises(ManifestError, match=said):
        publish(dist, parse_tag(TAG), LocalHost(tmp_path / "releases"))
    assert not (tmp_path / "releases").exists()


CONTRADICTIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a file twice": lambda document: document["files"].append(dict(document["files"][0])),
    "itself": lambda document: document["files"].append(dict(document["files"][0], name="manifest.json")),
    "a file elsewhere": lambda document: document["files"].append(dict(document["files"][0], name="../x")),
    "a long name": lambda document: document["files"].append(dict(document["files"][0], name="a" * 300)),
    "no such model": lambda document: document["delivery"].update(file="nothing.onnx"),
    "a variant elsewhere": lambda document: document["variants"][0].update(file="../../etc/passwd"),
    "another tag": lambda document: document.update(tag="model-v9.0.0"),
    "another version": lambda document: document.update(version="9.0.0"),
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ManifestError):
        check_dist(make_dist(tmp_path / "dist", change=change), parse_tag(TAG))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (add("tiny-config.json"), "'tiny-config.json' has other bytes"),
        (add("tiny-SHA256SUMS"), "tiny-SHA256SUMS has other sums"),
        (add("tiny-extra.txt"), "'tiny-extra.txt' is not listed"),
        (remove("tiny-manifest.json"), "'tiny-SHA256SUMS' is not listed"),
        (lambda dist: (dist / "tiny-manifest.json").rename(dist / "x-manifest.json"), "No such file"),
        (remove("manifest.json"), "must be a folder with manifest.json"),
    ],
)
def test_a_second_model_is_judged_like_the_first(dist: Path, harm: Callable[[Path], object], said: str) -> None:
    make_dist(dist, prefix="tiny-")
    harm(dist)
    with pytest.raises(ManifestError, match=said):
        check_dist(dist, parse_tag(TAG))


def test_a_second_model_may_not_claim_the_firsts_files(dist: Path) -> None:
    def claim(document: dict[str, Any]) -> None:
        document["files"].append({**document["files"][0], "name": "model.onnx"})

    make_dist(dist, prefix="tiny-", change=claim)
    with pytest.raises(ManifestError, match="whose names begin as its own"):
        check_dist(dist, parse_tag(TAG))
