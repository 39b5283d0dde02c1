"""transformers.js runs a release, fetched with its layout or from a mirror: generation, activations; Node, Chromium."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import cli
from commands import call
from mirrors import MIRROR, mirror_hub
from model_release.browser import npm
from model_release.contract import manifest
from model_release.contract.dist import check_dist
from model_release.contract.tag import parse_tag
from model_release.hosts.mirror_hub import HubMirror
from model_release.model.onnx_files.session import Session
from standins.hub import StandInHub
from vite import vite_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

APP = Path(__file__).parents[1] / "transformers_js"
TEXT = "A quick brown"
"""It goes on otherwise where a step sees its own token alone."""
WITHOUT_PAST = "The dog was"
"""Goes on the same either way: after the first step transformers.js 4.3.1 hands any file one token, past or no past."""
NEW = 5
USE = """async ([how, where, text, tokens]) => {
    const { goOn, see, ...loaders } = await import(new URL("app.js", globalThis.location?.href ?? APP).href);
    const loaded = await loaders[how](...where);
    const steps = [], rows = [], { model: session } = loaded.model.sessions, run = session.run.bind(session);
    session.run = async (given, ...rest) => {
        const returned = await run(given, ...rest), { dims, data } = returned.layer_1_attn_probs;
        steps.push(given.input_ids.dims[1]);
        rows.push(Array.from(data.slice(-dims[3]), Number));
        return returned;
    };
    const outputs = Object.entries(await see(loaded, text));
    const shown = outputs.map(([name, { dims, data }]) => [name, { dims, data: Array.from(data, Number) }]);
    return { outputs: Object.fromEntries(shown), text: await goOn(loaded, text, tokens), steps, rows };
}"""


@pytest.fixture(scope="module")
def packages(tool: Callable[[Callable[[], Path]], Path]) -> Path:
    return tool(lambda: npm.install(APP))


@pytest.fixture(params=["released", "cached"])
def model(request: pytest.FixtureRequest) -> Path:
    """A release whose files run everything again for each token, and one whose files take keys and values."""
    release: Path = request.getfixturevalue(request.param)
    return release


@pytest.fixture
def site(tmp_path: Path, packages: Path, model: Path) -> Path:
    """The app with its model, as fetch.py lays it out."""
    app = tmp_path / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("node_modules"))
    (app / "node_modules").symlink_to(packages)
    outcome = call(
        cli.fetch,
        *("--env-file", app / ".env.production", "--tag", model.name, "--from", f"local:{model.parent}"),
        *("--layout", "transformers.js"),
    )
    assert outcome.code == 0, outcome.err
    return app


def url_of(app: Path) -> str:
    text = (app / ".env.production.local").read_text()
    return text.partition("VITE_MODEL_URL=")[2].splitlines()[0]


def text_for(released: Path) -> str:
    return TEXT if manifest.read(released).selection.cache else WITHOUT_PAST


def check(seen: dict[str, Any], released: Path, file: str = "model_fp16.onnx") -> None:
    """Every activation is what onnxruntime returns, and the text goes on as the likeliest tokens do."""
    session = Session(released / file)
    tokenizer = Tokenizer.from_file(str(released / "tokenizer.json"))
    ids = tokenizer.encode(text_for(released)).ids
    expected = session.run(np.array([ids]))
    assert seen["outputs"].keys() == expected.keys()
    for name, value in seen["outputs"].items():
        np.testing.assert_allclose(np.reshape(value["data"], value["dims"]), expected[name], atol=1e-4, err_msg=name)
    assert seen["steps"] == [len(ids), len(ids), *([1] * (NEW - 1))]
    rows = iter(seen["rows"][1:])  # The first run was for the outputs above.
    for number in range(NEW):
        outputs = session.run(np.array([ids]))
        if number == 0 or manifest.read(released).selection.cache:  # While the model writes, too.
            np.testing.assert_allclose(next(rows), outputs["layer_1_attn_probs"][0, -1, -1], atol=1e-4)
        ids.append(int(outputs["logits"][0, -1].argmax()))
    assert seen["text"] == tokenizer.decode(ids)


def in_node(site: Path, how: str, where: list[str], text: str, first: str = "") -> dict[str, Any]:
    """What `USE` returns in Node.js, after a statement of the test's own."""
    code = (
        f"const APP = {json.dumps((site / 'app.js').as_uri())}; {first}"
        f"console.log(JSON.stringify(await ({USE})({json.dumps([how, where, text, NEW])})))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", code], cwd=site, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.network
def test_transformers_js_generates_and_shows_activations_in_node(site: Path, model: Path) -> None:
    check(in_node(site, "load", [url_of(site), f"{site}/static/"], text_for(model)), model)


@pytest.fixture
def hub(tmp_path: Path, model: Path) -> Iterator[StandInHub]:
    """A hub with a mirror of the release."""
    with mirror_hub(tmp_path) as server:
        dist = check_dist(model, parse_tag(model.name))
        HubMirror(f"hub:{MIRROR}").upload(dist.document, model, dist.entries, was_public=True)
        yield server


@pytest.mark.network
def test_transformers_js_finds_a_mirrored_release_by_its_tag_in_node(site: Path, model: Path, hub: StandInHub) -> None:
    first = (
        'const { env } = await import("@huggingface/transformers");'
        f"env.remoteHost = {json.dumps(hub.url + '/')}; env.cacheDir = {json.dumps(f'{site}/cache/')};"
    )
    # Unasked it takes fp32 there; in a page, the file that the app gets.
    check(in_node(site, "loadMirrored", [MIRROR, model.name], text_for(model), first), model, "model.onnx")


@pytest.mark.long_cases("cached")
@pytest.mark.network
def test_transformers_js_does_the_same_in_chromium_behind_vite_preview(
    site: Path, packages: Path, model: Path, hub: StandInHub, browser: "Browser"
) -> None:
    with (site / "app.js").open("a") as app:
        app.write(f"env.remoteHost = {json.dumps(hub.url + '/')};\n")
    runtime = site / "static" / "runtime"
    runtime.mkdir()
    for path in (packages / "onnxruntime-web" / "dist").glob("ort-wasm-simd-threaded.asyncify.*"):
        shutil.copy(path, runtime)
    vite: list[Path | str] = [packages / ".bin" / "vite"]
    subprocess.run([*vite, "build", "--logLevel=error"], cwd=site, check=True, capture_output=True)
    (site / "dist" / "index.html").write_text("<!doctype html><title>See through</title>")
    with vite_server([*vite, "preview"], site) as origin, browser.new_context() as context:
        page = context.new_page()
        context.route(lambda url: not url.startswith((origin, hub.url, "blob:")), lambda route: route.abort())
        for how, where in (("loadMirrored", [MIRROR, model.name]), ("load", [url_of(site), "/"])):
            page.goto(origin)
            check(page.evaluate(USE, [how, [*where, f"{origin}/runtime/"], text_for(model), NEW]), model)
