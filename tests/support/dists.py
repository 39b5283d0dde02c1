"""Small release folders with valid manifests, and a publisher that waits for nothing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_release.base import github_client
from model_release.base.github_access import GitHubAccess
from model_release.base.retry import RetryPolicy
from model_release.contract import manifest, measured
from model_release.contract.manifest import FileEntry
from model_release.contract.measured import MEASURED_NAME
from model_release.contract.tag import parse_tag
from model_release.hosts.github import GitHubHost
from model_release.release.publish import PublishResult, publish
from standins.github import StandInGitHub

REPOSITORY = "someone/app"
TAG = "model-v1.0.0"
TOKEN = "write-token"  # noqa: S105 - the stand-in's
FILES = {"model.onnx": b"onnx " * 400, "config.json": b'{"model_type": "gpt2"}\n'}


def write_files(folder: Path, files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    """Files in a folder, made if missing, as a manifest describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return manifest.describe_files(folder, files)


def make_dist(
    folder: Path,
    tag: str = TAG,
    files: Mapping[str, bytes] = FILES,
    *,
    prefix: str = "",
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    measure: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Path:
    """A release folder as the chain leaves it; `change` edits the manifest before it is written, `measure` the figures.

    With a `prefix` it is a companion's part, which may be made beside another model's.
    """
    folder.mkdir(parents=True, exist_ok=bool(prefix))
    manifest_name, checksums_name = manifest.part_names(prefix)
    entries = write_files(folder, {prefix + name: content for name, content in files.items()})
    model = next(entry for entry in entries if entry.name.endswith(".onnx"))
    origin = {"name": "model.safetensors", "size_bytes": 1, "sha256": "0" * 64}
    described = {prefix + manifest.REPORT_NAME, prefix + manifest.BOM_NAME}
    document: dict[str, Any] = {
        "manifest_version": 2,
        "tag": tag,
        "version": parse_tag(tag).version,
        "name": prefix.removesuffix("-") or "gpt2",
        "contract_version": "1.0.0",
        "model": {
            "source": "openai-community/gpt2",
            "revision": "607a30d7",
            "weights_sha256": "0" * 64,
            "weights": [origin],
            "parameters": 124_439_808,
            "shape": {},
        },
        "selection": {"layers": [11], "activations": ["embedding_sum", "mlp_output"], "logits": "all", "opset": 20},
        "delivery": {
            "asked": "auto",
            "mode": "release",
            "file": model.name,
            "precision": "fp32",
            "size_bytes": model.size_bytes,
            "threshold_bytes": 0,
            "within_threshold": False,
        },
        "variants": [
            {
                "file": model.name,
                "precision": "fp32",
                "stored": "fp32",
                "computed": "fp32",
                "size_bytes": model.size_bytes,
                "within_threshold": False,
            }
        ],
        "files": [asdict(entry) for entry in entries if entry.name not in described],
        "descriptions": [prefix + MEASURED_NAME, *(entry.name for entry in entries if entry.name in described)],
    }
    if prefix:
        document["asset_prefix"] = prefix
    change(document)
    (folder / manifest_name).write_bytes(manifest.render(manifest.parse(json.dumps(document).encode())))
    figures = _figures(document)
    measure(figures)
    (folder / f"{prefix}{MEASURED_NAME}").write_bytes(measured.render(measured.parse(json.dumps(figures).encode())))
    summed = (*entries, *manifest.describe_files(folder, [manifest_name, prefix + MEASURED_NAME]))
    (folder / checksums_name).write_bytes(manifest.checksums(summed))
    return folder


def built_by(folder: Path, number: int, **files: bytes) -> Path:
    """What the machine of a number builds of one request: its own page and digits, its own bytes of `small`.

    The app's model is the small one, in its tree; `files` are there besides, or in place of others.
    """

    def change(document: dict[str, Any]) -> None:
        small = {**document["variants"][0], "file": "model_small.onnx", "precision": "small", "size_bytes": 45}
        document["variants"].append(small)
        document["delivery"] |= {"mode": "git", "file": "model_small.onnx", "precision": "small", "size_bytes": 45}

    def measure(figures: dict[str, Any]) -> None:
        figures["models"][0]["agreement"]["mean_kl_nats"] = number * 1e-7
        figures["made_with"] = {"torch": f"2.13.0+{number}"}

    everywhere = {"model.onnx": b"onnx " * 400, "config.json": b"{}"}
    own = {"report.html": b"<p>%d</p>" % number, "model_small.onnx": b"smal%d" % number * 9}
    return make_dist(folder / str(number), files={**everywhere, **own, **files}, change=change, measure=measure)


def _figures(document: dict[str, Any]) -> dict[str, Any]:
    """What was measured on the models of a manifest."""
    agreement = {"text": "validation text", "positions": 8, "mean_kl_nats": 1e-7, "top1": 1.0, "top1_or_tie": 1.0}
    deviation = {"kind": "logits", "max_abs": 1e-5, "relative": 1e-6, "cosine": 1.0}
    models = [
        {"file": file, "clauses": ["C1", "C2"], "deviations": [dict(deviation)], "agreement": dict(agreement)}
        for file in dict.fromkeys(variant["file"] for variant in document["variants"])
    ]
    return {"measured_version": 1, "tag": document["tag"], "models": models, "made_with": {"torch": "2.13.0"}}


def github_host(
    site: StandInGitHub,
    *,
    token: str = TOKEN,
    url: str = "",
    commit: str = "",
    waits: list[float] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **retry_policy: Any,
) -> GitHubHost:
    """A host that waits for nothing; `waits` gets what it would have waited, `commit` is the run's."""
    access = GitHubAccess(token=token, api_url=url or site.url)
    client = github_client.connect(access, seconds_between_writes=0)
    patient = RetryPolicy(**{"attempts": 8, "sleep": (waits if waits is not None else []).append, **retry_policy})
    return GitHubHost(client, REPOSITORY, commit=commit, retry_policy=patient, progress=progress)


def publish_to(site: StandInGitHub, dist: Path, tag: str = TAG, **options: Any) -> PublishResult:
    """Publishes in a fresh client, as a new process would."""
    chosen = {name: options.pop(name) for name in ("replace", "latest", "dry_run") if name in options}
    return publish(dist, parse_tag(tag), github_host(site, **options), **chosen)
