"""An app in TypeScript shows what a released model does with a text."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from model_release.browser import npm
from model_release.browser.server import serve
from model_release.contract import manifest
from model_release.contract.activations import CONTRACT_FOLDER
from model_release.model.onnx_files.session import Session
from pages import LAYERS
from small_release import sha256
from vite import vite_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

APP = Path(__file__).parents[1] / "typed_app"
WASM = "ort-wasm-simd-threaded.wasm"
TEXT = "The dog was found."
USE = """async ({ url, text }) => {
    const { attention, draw, loadModel, run } = await import("/app.js");
    const shares = [];
    const model = await loadModel(url, new URL(location.href), (share) => shares.push(share));
    const { tokens, outputs } = await run(model, text);
    const rows = attention(outputs, model.layers.at(-1), 1);
    const canvas = document.createElement("canvas");
    draw(canvas, rows);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const ink = Array.from(data).filter((_, at) => at % 4 === 3);
    return { tokens, names: Object.keys(outputs), shares, rows: rows.map((row) => Array.from(row)), ink };
}"""
SENTENCE = "Run fetch first"


@pytest.fixture(scope="module")
def packages(tool: Callable[[Callable[[], Path]], Path]) -> Path:
    return tool(lambda: npm.install(APP))


def split(folder: Path) -> None:
    """Moves the tensors of the app's model into a data file, as a model past 2 GiB has them."""
    document = json.loads((folder / "manifest.json").read_bytes())
    path = folder / document["delivery"]["file"]
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=1024
    )
    kept = [entry for entry in document["files"] if entry["name"] != path.name]
    new = [
        {"name": each.name, "size_bytes": each.stat().st_size, "sha256": sha256(each.read_bytes())}
        for each in (path, path.with_name(f"{path.name}_data"))
    ]
    (folder / "manifest.json").write_text(json.dumps({**document, "files": [*kept, *new]}))


@pytest.fixture(scope="module")
def bundled(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The app, bundled once by each."""

    @cache
    def make(bundler: str) -> Path:
        folder = tmp_path_factory.mktemp(bundler)
        bundle(bundler, packages, folder)
        return folder

    return make


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
def site(request: pytest.FixtureRequest, tmp_path: Path, bundled: Callable[[str], Path], released: Path) -> Path:
    """The app as its host serves it: bundled, by esbuild unless told otherwise, and the model."""
    shutil.copytree(bundled(getattr(request, "param", "esbuild")), tmp_path, dirs_exist_ok=True)
    shutil.copytree(released, tmp_path / "models" / "gpt2")
    (tmp_path / "index.html").write_text("<!doctype html><title>See through</title>")
    return tmp_path


@pytest.fixture
def use(site: Path, browser: "Browser") -> Iterator[Callable[..., Any]]:
    """Runs the app in a page that asks its own origin alone."""
    file = json.loads((site / "models" / "gpt2" / "manifest.json").read_bytes())["delivery"]["file"]
    with serve(site) as origin, browser.new_context() as context:
        page = context.new_page()
        context.route(lambda url: not url.startswith((origin, "blob:")), lambda route: route.abort())
        page.goto(origin)
        url = f"models/gpt2/{file}?v=1.0.0-0a1b2c3d"
        yield lambda **changes: page.evaluate(USE, {"url": url, "text": TEXT} | changes)


@pytest.mark.network
@pytest.mark.parametrize("site", ["esbuild", "vite"], indirect=True)
@pytest.mark.parametrize("files", ["one file", "a data file"])
def test_the_example_goes_from_a_text_to_a_picture(
    use: Callable[..., Any], released: Path, site: Path, files: str
) -> None:
    if files == "a data file":
        split(site / "models" / "gpt2")
    seen = use()
    encoded = Tokenizer.from_file(str(released / "tokenizer.json")).encode(TEXT)
    expected = Session(released / manifest.read(released).delivery.file).run(np.array([encoded.ids]))
    probabilities = expected[f"layer_{LAYERS - 1}_attn_probs"][0, 1]
    assert seen["tokens"] == encoded.tokens
    assert sorted(seen["names"]) == sorted(expected)
    np.testing.assert_allclose(seen["rows"], probabilities, atol=1e-5, rtol=0)
    np.testing.assert_allclose(seen["ink"], 255 * probabilities.ravel(), atol=0.51)
    assert seen["shares"] == sorted(seen["shares"])
    assert seen["shares"][-1] == 1


@pytest.mark.network
def test_the_example_refuses_a_model_of_another_contract(use: Callable[..., Any], site: Path) -> None:
    path = site / "models" / "gpt2" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"contract_version": "2.0.0"}))
    with pytest.raises(Exception, match=r"must keep contract 1\.x, got 2\.0\.0"):
        use()


@pytest.mark.network
@pytest.mark.parametrize("url", [None, "", "models/gpt3/model.onnx?v=1"])
def test_a_model_that_was_not_fetched_ends_in_the_example_s_sentence(use: Callable[..., Any], url: str | None) -> None:
    with pytest.raises(Exception, match=SENTENCE):
        use(url=url)


@pytest.mark.network
@pytest.mark.parametrize("command", ["dev", "preview"])
def test_servers_that_answer_with_a_page_end_in_the_example_s_sentence(
    command: str, packages: Path, tmp_path: Path, browser: "Browser"
) -> None:
    app = tmp_path / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("node_modules"))
    (app / "node_modules").symlink_to(packages)
    shutil.copy(CONTRACT_FOLDER / "activations.d.ts", app)
    (app / "index.html").write_text('<!doctype html><canvas></canvas><script type="module" src="main.ts"></script>')
    (app / "vite.config.js").unlink()
    vite = [packages / ".bin" / "vite"]
    environment = {**os.environ, "VITE_MODEL_URL": "models/gpt2/model.onnx?v=1"} if command == "preview" else None
    if command == "preview":
        subprocess.run([*vite, "build", "--logLevel=error"], cwd=app, check=True, capture_output=True, env=environment)
    with vite_server([*vite, command], app) as origin, browser.new_context() as context:
        page = context.new_page()
        with page.expect_event("pageerror") as caught:
            page.goto(origin)
    assert SENTENCE in str(caught.value)
