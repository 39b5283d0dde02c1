"""The plugin of fetch.mjs in a real Vite: the model is there and the app knows its URL, in dev as in build."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import SCRIPTS
from model_release.browser import npm
from serving import Server, ranged
from small_release import MODEL, TAG, VERSION, release

APP = Path(__file__).parents[1] / "web_app"
CONFIG = """import { seeThroughModel } from "./fetch.mjs";
export default { plugins: [seeThroughModel(%s)] };
"""
DEV = """import { createServer } from "vite";
const server = await createServer({ server: { port: 0, host: "127.0.0.1" }, logLevel: "error" });
await server.listen();
const at = (path) => fetch(new URL(path, server.resolvedUrls.local[0]));
const script = await (await at("src/main.js")).text();
const model = await at("models/gpt2/model_fp16.onnx");
console.log(JSON.stringify({ script, size: (await model.arrayBuffer()).byteLength }));
await server.close();
"""


@pytest.fixture
def app(tmp_path: Path, tool: Callable[[Callable[[], Path]], Path]) -> Path:
    """A web app that has Vite and a copy of fetch.mjs, as the README says."""
    packages = tool(lambda: npm.install(APP))
    app = tmp_path / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("node_modules", ".github", "vite.config.js"))
    (app / "node_modules").symlink_to(packages)
    shutil.copy(SCRIPTS / "fetch.mjs", app)
    (app / "vite.config.js").write_text(CONFIG % "")
    return app


def node(app: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("VITE_", "GITHUB_", "NODE_ENV"))}
    return subprocess.run(
        ["node", *command], cwd=app, env=kept | environment, capture_output=True, text=True, timeout=120
    )


def release_at(app: Path) -> Server:
    files = release()
    server = Server(lambda asked: ranged(asked, files[asked.path.rpartition("/")[2]]))
    url = f"{server.url}/{TAG}/model_fp16.onnx?v={VERSION}"
    (app / ".env.production").write_text(f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={url}\n")
    return server


@pytest.mark.network
def test_vite_build_ships_the_model_and_its_url(app: Path) -> None:
    with release_at(app) as server:
        done = node(app, "node_modules/vite/bin/vite.js", "build")
        assert done.returncode == 0, done.stderr
        asked = len(server.asked)
        assert node(app, "node_modules/vite/bin/vite.js", "build").returncode == 0
        assert len(server.asked) == asked
    (script,) = (app / "dist" / "assets").glob("*.js")
    assert f"models/gpt2/model_fp16.onnx?v={VERSION}" in script.read_text()
    assert (app / "dist/models/gpt2/model_fp16.onnx").read_bytes() == MODEL


@pytest.mark.network
def test_vite_dev_serves_the_model_and_knows_its_url(app: Path) -> None:
    with release_at(app):
        done = node(app, "--input-type=module", "--eval", DEV)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert f'"VITE_MODEL_URL": "models/gpt2/model_fp16.onnx?v={VERSION}"' in seen["script"]
    assert seen["size"] == len(MODEL)


@pytest.mark.network
def test_an_unset_secret_of_the_build_does_not_blank_the_url(app: Path) -> None:
    with release_at(app):
        done = node(app, "node_modules/vite/bin/vite.js", "build", VITE_MODEL_URL="")
    assert done.returncode == 0, done.stderr
    (script,) = (app / "dist" / "assets").glob("*.js")
    assert f"models/gpt2/model_fp16.onnx?v={VERSION}" in script.read_text()


@pytest.mark.network
def test_a_release_that_cannot_be_had_ends_vite_with_the_sentence(app: Path) -> None:
    (app / ".env.production").unlink()
    done = node(app, "node_modules/vite/bin/vite.js", "build")
    assert done.returncode != 0
    assert re.search(r"\.env\.production must exist\. Make a release first", done.stderr)
    assert not (app / "dist").exists()


@pytest.mark.network
def test_an_app_of_commonjs_takes_the_plugin_too(app: Path) -> None:
    package = json.loads((app / "package.json").read_bytes())
    (app / "package.json").write_text(json.dumps(package | {"type": "commonjs"}))
    with release_at(app):
        done = node(app, "node_modules/vite/bin/vite.js", "build")
    assert done.returncode == 0, done.stderr
    assert (app / "dist/models/gpt2/model_fp16.onnx").read_bytes() == MODEL


def test_nothing_stands_before_the_first_import_that_old_bundlers_could_put_code_before() -> None:
    """Vite 4 to 6 bundle the config with what it imports, and put a line before a hashbang."""
    assert (SCRIPTS / "fetch.mjs").read_text().startswith("// ")


@pytest.mark.network
def test_the_plugin_takes_what_the_command_takes(app: Path) -> None:
    (app / "vite.config.js").write_text(CONFIG % '{ staticDir: "public/sub", layout: "transformers.js" }')
    with release_at(app):
        done = node(app, "node_modules/vite/bin/vite.js", "build")
    assert done.returncode == 0, done.stderr
    assert (app / "dist/sub/models/gpt2/onnx/model_fp16.onnx").read_bytes() == MODEL
