"""An app in TypeScript runs a released model; tests/test_javascript.py checks that the contract's types fit it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cli
from builders import gpt2_folder
from commands import call
from model_release.browser import npm
from model_release.browser.server import serve
from model_release.contract import manifest
from model_release.model.onnx_files.session import Session

if TYPE_CHECKING:
    from playwright.sync_api import Browser

APP = Path(__file__).parents[1] / "typed_app"
WASM = "ort-wasm-simd-threaded.wasm"
IDS = [3, 14, 15, 9, 2, 6]
USE = """async ({ url, ids }) => {
    const { attention, loadModel, run } = await import("/app.js");
    const shares = [];
    const session = await loadModel(new URL(url, location.href), (share) => shares.push(share));
    const outputs = await run(session, ids);
    const rows = ids.map((_, query) => Array.from(attention(outputs, 1, query)));
    return { names: Object.keys(outputs), shares, rows };
}"""


@pytest.fixture(scope="module")
def packages(tool: Callable[[Callable[[], Path]], Path]) -> Path:
    return tool(lambda: npm.install(APP))


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of twelve layers, of which the last is seen."""
    model = gpt2_folder(tmp_path_factory.mktemp("model"), layers=12, heads=2)
    dist = tmp_path_factory.mktemp("built") / "dist"
    outcome = call(cli.build, "--tag", "model-v1.0.0", "--model-path", model, "--precision", "fp16", "--output", dist)
    assert outcome.code == 0, outcome.err
    return dist


def bundle(bundler: str, packages: Path, site: Path) -> None:
    """Bundles the app; Vite brings onnxruntime's own file itself."""
    arguments = {
        "esbuild": ["app.ts", "--bundle", "--format=esm", f"--outdir={site}"],
        "vite": ["build", "--logLevel=error", f"--outDir={site}", "--emptyOutDir"],
    }[bundler]
    subprocess.run([packages / ".bin" / bundler, *arguments], cwd=APP, check=True, capture_output=True)
    if bundler == "esbuild":
        shutil.copy(packages / "onnxruntime-web" / "dist" / WASM, site)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, packages: Path, dist: Path) -> Path:
    """The app as its host serves it: bundled, by esbuild unless told otherwise, and the model."""
    bundle(getattr(request, "param", "esbuild"), packages, tmp_path)
    shutil.copytree(dist, tmp_path / "models" / "gpt2")
    (tmp_path / "index.html").write_text("<!doctype html><title>See through</title>")
    return tmp_path


@pytest.fixture
def use(site: Path, browser: "Browser") -> Iterator[Callable[[], Any]]:
    """Runs the app in a page that asks its own origin alone."""
    file = json.loads((site / "models" / "gpt2" / "manifest.json").read_bytes())["delivery"]["file"]
    with serve(site) as origin, browser.new_context() as context:
        page = context.new_page()
        context.route(lambda url: not url.startswith((origin, "blob:")), lambda route: route.abort())
        page.goto(origin)
        yield lambda: page.evaluate(USE, {"url": f"models/gpt2/{file}?v=1.0.0-0a1b2c3d", "ids": IDS})


@pytest.mark.network
@pytest.mark.parametrize("site", ["esbuild", "vite"], indirect=True)
def test_the_example_reads_the_attention_of_layer_11_in_a_browser(use: Callable[[], Any], dist: Path) -> None:
    seen = use()
    file = manifest.read(dist).delivery.file
    expected = Session(dist / file).run(np.array([IDS]))
    assert sorted(seen["names"]) == sorted(expected)
    np.testing.assert_allclose(seen["rows"], expected["layer_11_attn_probs"][0, 1], atol=1e-5, rtol=0)
    assert seen["shares"] == sorted(seen["shares"])
    assert seen["shares"][-1] == 1


@pytest.mark.network
def test_the_example_refuses_a_model_of_another_contract(use: Callable[[], Any], site: Path) -> None:
    path = site / "models" / "gpt2" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"contract_version": "2.0.0"}))
    with pytest.raises(Exception, match=r"must keep contract 1\.x, got 2\.0\.0"):
        use()
