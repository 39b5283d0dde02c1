"""The embedded model, and the whole chain on it: what a stranger's first command gives."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer
from transformers import GPT2Tokenizer

from model_release.app.tree import TreeApp
from model_release.base.errors import UsageError
from model_release.contract import manifest
from model_release.contract.activations import load_contract
from model_release.contract.clauses import VERIFIED
from model_release.contract.request import SelectionRequest
from model_release.contract.tag import parse_tag
from model_release.hosts.local import LocalHost
from model_release.model.pipeline import (
    calibration_ids,
    calibration_ids_for,
    pytorch_reference,
    quantize_model,
    text_ids,
    verify_weights,
)
from model_release.model.precision.quantize import quantize_file
from model_release.model.verify.probes import PyTorchModel
from model_release.model.verify.verification import Verification
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import DEMO_FOLDER, SourceRequest
from model_release.model.weights.tokenizer import VALIDATION_TEXT, load_tokenizer
from model_release.release.chain import ReleaseRequest, ReleaseResult, release_model
from model_release.release.publish import publish
from model_release.release.request import BuildRequest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

TEXT = "In the beginning God created the heaven and the earth. Ünïcödé, 🙂 and\n\ttabs too."


def release(folder: Path) -> tuple[ReleaseResult, list[str]]:
    """Releases the embedded model into a folder, as scripts/demo.sh does; returns the progress lines too."""
    env_file = folder / "app" / ".env.production"
    env_file.parent.mkdir(parents=True, exist_ok=True)
    if not env_file.exists():
        env_file.write_bytes(b"# the app\r\nVITE_TITLE='See through'\r\n")
    lines: list[str] = []
    build = BuildRequest(
        tag=parse_tag("model-v1.0.0"),
        source=SourceRequest(demo=True),
        selection=SelectionRequest(layers="0,5,11"),
        precisions=("fp16", "int8-dynamic"),
        app_precision="fp16",
        delivery="auto",
        threshold_bytes=50_000_000,
    )
    app = TreeApp(env_file=env_file, static_dir=folder / "app" / "static", progress=lines.append)
    request = ReleaseRequest(build=build, app=app)
    return release_model(request, LocalHost(folder / "releases"), lines.append), lines


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReleaseResult, list[str]]:
    folder = tmp_path_factory.mktemp("out")
    return folder, *release(folder)


def test_the_embedded_model_is_small_and_has_twelve_layers() -> None:
    weights = load_folder(DEMO_FOLDER)
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) <= 4_000_000
    assert weights.blueprint.layers == 12
    assert weights.blueprint.tied
    assert weights.config["activation_function"] == "gelu_new"


def test_its_tokenizer_files_agree_and_give_any_text_back() -> None:
    fast = Tokenizer.from_file(str(DEMO_FOLDER / "tokenizer.json"))
    slow = GPT2Tokenizer(vocab=str(DEMO_FOLDER / "vocab.json"), merges=str(DEMO_FOLDER / "merges.txt"))
    ids = fast.encode(TEXT).ids
    assert fast.decode(ids) == TEXT
    assert slow(TEXT)["input_ids"] == ids


def test_a_release_is_complete_and_sha256sum_agrees(released: tuple[Path, ReleaseResult, list[str]]) -> None:
    folder = released[0] / "releases" / "model-v1.0.0"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            *("model.onnx", "model_fp16.onnx", "model_int8_dynamic.onnx"),
            *load_folder(DEMO_FOLDER).tokenizer_files,
            *("config.json", "activations.json", "ACTIVATIONS_CONTRACT.md", "fetch.mjs", "report.html"),
            *("manifest.json", "measured.json", "bom.cdx.json", "SHA256SUMS"),
        ]
    )
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    document = manifest.parse((folder / "manifest.json").read_bytes())
    for entry in document.files:
        assert hashlib.sha256((folder / entry.name).read_bytes()).hexdigest() == entry.sha256


def test_the_fp32_model_equals_pytorch_closely(released: tuple[Path, ReleaseResult, list[str]]) -> None:
    assert released[1].figures is not None
    full = released[1].figures.of("model.onnx")
    errors = {row.kind: row.max_abs for row in full.deviations}
    assert errors["logits"] <= 1e-4
    assert errors["attn_probs"] <= 1e-5


def test_the_figures_list_the_clauses_that_the_default_activations_let_one_judge(
    released: tuple[Path, ReleaseResult, list[str]],
) -> None:
    judged = [clause.id for clause in load_contract().clauses.values() if clause.stage in VERIFIED]
    unseen = ("SUM01", "ATTN01", "LENS01")  # They need parts of sums, v or scores, and the logit lens.
    held = tuple(clause for clause in judged if clause not in unseen)
    assert released[1].figures is not None
    assert {model.clauses for model in released[1].figures.models} == {held}


def test_every_step_has_its_line(released: tuple[Path, ReleaseResult, list[str]]) -> None:
    steps = [line.split()[1] for line in released[2] if line.startswith("[")]
    assert steps == ["plan", "weights", "export", "quantize", "verify", "size", "package", "release", "env"]


def test_a_small_model_is_delivered_by_git_under_a_versioned_url(
    released: tuple[Path, ReleaseResult, list[str]],
) -> None:
    folder, result, _ = released
    digest = hashlib.sha256((folder / "releases" / "model-v1.0.0" / "model_fp16.onnx").read_bytes()).hexdigest()
    assert result.document.delivery.mode == "git"
    assert result.app is not None
    assert result.app.model_url == f"models/demo/model_fp16.onnx?v=1.0.0-{digest[:8]}"
    assert (folder / "app" / ".env.production").read_bytes() == (
        b"# the app\r\nVITE_TITLE='See through'\r\n"
        + f"VITE_MODEL_URL={result.app.model_url}\r\nVITE_MODEL_VERSION=1.0.0\r\n".encode()
    )
    delivered = folder / "app" / "static" / "models" / "demo" / "model_fp16.onnx"
    assert hashlib.sha256(delivered.read_bytes()).hexdigest() == digest


def test_a_second_run_uses_the_public_release_builds_nothing_and_writes_nothing(
    released: tuple[Path, ReleaseResult, list[str]],
) -> None:
    folder, first, _ = released
    env_file = folder / "app" / ".env.production"
    before = env_file.stat().st_mtime_ns
    second, lines = release(folder)
    assert "model-v1.0.0 is public and is what is asked for: nothing is built" in lines
    assert {action.kind for action in second.actions} == {"keep"}
    assert (second.document, second.figures) == (first.document, first.figures)
    assert second.app is not None
    assert second.app.outcome == "unchanged"
    assert env_file.stat().st_mtime_ns == before


@pytest.mark.long
def test_another_machine_builds_the_same_release(
    released: tuple[Path, ReleaseResult, list[str]], tmp_path: Path
) -> None:
    folder, dist = released[0], tmp_path / "dist"
    machine = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
    built = subprocess.run(
        [
            *("taskset", "-c", "0", sys.executable, SCRIPTS / "build.py", "--demo", "--tag", "model-v1.0.0"),
            *("--layers", "0,5,11", "--output", dist),
        ],
        env=os.environ | machine | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "TZ": "Asia/Shanghai"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr.count("error")) == (0, 0), built.stderr
    public = folder / "releases" / "model-v1.0.0"
    assert (dist / "manifest.json").read_bytes() == (public / "manifest.json").read_bytes()
    result = publish(dist, parse_tag("model-v1.0.0"), LocalHost(folder / "releases"))
    assert {action.kind for action in result.actions} == {"keep"}


def test_it_has_learned_english(released: tuple[Path, ReleaseResult, list[str]]) -> None:
    """The loss on text it never saw, through the released file and tokenizer, is the README's and beats bigrams."""
    folder = released[0] / "releases" / "model-v1.0.0"
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(VALIDATION_TEXT.read_text()).ids
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    losses = []
    for start in range(0, len(ids) - 256, 256):
        window = np.array([ids[start : start + 256]])
        (logits,) = session.run(["logits"], {"input_ids": window})
        shifted = logits[0, :-1].astype(np.float64)
        normal = np.log(np.exp(shifted - shifted.max(-1, keepdims=True)).sum(-1)) + shifted.max(-1)
        losses += list(normal - shifted[np.arange(255), window[0, 1:]])
    stated = dict(
        re.findall(r"\| validation [^|]*\| ([^|]+?) \| ([0-9.]+) \|", (DEMO_FOLDER / "README.md").read_text())
    )
    assert np.mean(losses) == pytest.approx(float(stated["this model"]), rel=0.03)
    others = [float(nats) for model, nats in stated.items() if model != "this model"]
    assert np.mean(losses) < min(others) - 0.5


REACH = {
    "int8": (0.001, 0.98, 1.01),
    "int8-static": (0.002, 0.97, 1.01),
    "int4": (0.03, 0.84, 1.03),
    "int4-compute": (0.035, 0.84, 1.03),
    "small": (0.08, 0.74, 1.08),
}
"""Precision -> largest mean KL, smallest top-1 agreement, largest perplexity ratio on the validation text."""


@pytest.fixture(scope="module")
def demo_reference() -> PyTorchModel:
    return pytorch_reference(load_folder(DEMO_FOLDER))


def read(ids_of: Callable[..., list[int]]) -> list[int]:
    weights = load_folder(DEMO_FOLDER)
    return ids_of(weights.blueprint, load_tokenizer(weights))


def measured(path: Path, reference: PyTorchModel) -> Verification:
    return verify_weights(path, path.name, reference, read(text_ids), lambda _: None)


@pytest.fixture(scope="module")
def quantized(
    released: tuple[Path, ReleaseResult, list[str]],
    demo_reference: PyTorchModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Verification]:
    """A precision of the released model, calibrated on text and measured against PyTorch; made once."""

    @cache
    def make(precision: str) -> Verification:
        source, folder = released[0] / "releases" / "model-v1.0.0" / "model.onnx", tmp_path_factory.mktemp("quantized")
        (path,) = quantize_model(source, [precision], folder, calibration=lambda: read(calibration_ids))
        return measured(path, demo_reference)

    return make


@pytest.mark.parametrize("precision", REACH)
def test_a_precision_reaches_its_quality_on_text_it_never_saw(
    precision: str, quantized: Callable[[str], Verification]
) -> None:
    result = quantized(precision)
    assert result.findings == ()
    assert result.agreement is not None
    mean_kl, top1, perplexity_ratio = REACH[precision]
    assert result.agreement.mean_kl <= mean_kl
    assert result.agreement.top1 >= top1
    assert result.agreement.perplexity_ratio <= perplexity_ratio


def test_calibrating_on_text_leaves_small_closer_than_random_tokens(
    released: tuple[Path, ReleaseResult, list[str]],
    quantized: Callable[[str], Verification],
    demo_reference: PyTorchModel,
    tmp_path: Path,
) -> None:
    source = released[0] / "releases" / "model-v1.0.0" / "model.onnx"
    quantize_file(source, tmp_path / "random.onnx", "small", [])
    on_random, on_text = measured(tmp_path / "random.onnx", demo_reference).agreement, quantized("small").agreement
    assert on_random is not None
    assert on_text is not None
    assert on_text.mean_kl < 0.9 * on_random.mean_kl


def test_a_calibration_text_needs_a_tokenizer(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match=r"--calibration needs a tokenizer, got none beside .*model\.onnx"):
        calibration_ids_for(tiny_onnx, None, VALIDATION_TEXT)
