"""The workflows run by act, on the real commands: what a tag, a click and a call do, and what goes wrong on the way."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from acting import EXAMPLE, OWN_COMMIT, OWN_REPOSITORY, ROOT, Run, load, own_checkout, run_workflow, steps_of
from builders import gpt2_folder
from model_release.browser import npm
from model_release.browser.chromium import executable
from model_release.contract import manifest, measured
from standins.github import RULESET, Fault, Repository, StandInGitHub
from standins.hub import StandInHub

pytestmark = [pytest.mark.network, pytest.mark.slow]

TAG = "model-v1.0.0"
APP = "someone/app"
RELEASE = ROOT / ".github" / "workflows" / "release-model.yml"
HUB_MODEL = "openai-community/gpt2"
ENV = b"VITE_TITLE='See through'\r\nVITE_MODEL_URL=\r\n"
FILES = {
    "apps/web/.env.production": ENV,
    ".github/workflows/deploy.yml": b"on: workflow_dispatch\n",
}
UNJUDGED = {"MODEL_RELEASE_NO_BROWSER": "true"}
DEMO = {
    **UNJUDGED,
    "MODEL_RELEASE_MODELS": "demo",
    "MODEL_RELEASE_PRECISION": "fp16",
    "MODEL_RELEASE_DELIVERY": "release",
    "MODEL_RELEASE_DEPLOY_WORKFLOW": "deploy.yml",
}
TINY = {**UNJUDGED, "MODEL_RELEASE_PRECISION": "fp16", "MODEL_RELEASE_DELIVERY": "release"}
ALL_WELL = {"Plan": "success", "Build demo": "success", "Attest": "success", "Publish": "success"}
TRIED = {"Plan": "success", "Build demo": "success", "Say what would be published": "success"}
TINY_WELL = {name.replace("demo", "gpt2"): result for name, result in ALL_WELL.items()}


LOCKED = (
    "-m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --retries 8 --timeout 60 "
    "--extra-index-url https://download.pytorch.org/whl/cpu --requirement scripts/locks/"
)
NOWHERE = "http://127.0.0.1:9"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Bench:
    """One GitHub, its runner's folders, and what equal builds share."""

    folder: Path
    checkout: Path
    site: StandInGitHub
    built: Path
    hub: StandInHub
    runs: int = 0

    def run(self, **options: Any) -> Run:
        """A run of the release workflow, by default for a pushed tag, with the embedded model built before."""
        self.runs += 1
        ref = options.get("ref", f"refs/tags/{TAG}")
        if ref == f"refs/tags/{TAG}" and ref not in self.app.refs:
            self.app.create_tag(TAG)  # Its push is what started the run.
        given = {
            "checkout": self.checkout,
            "event": "push",
            "payload": {},
            "state": self.folder / "state",
            "ref": ref,
            "commit": self.app.resolve(ref) or "",
            "api_url": self.site.url,
            "server_url": self.site.url,
            "hub_url": self.hub.url,
            "variables": DEMO,
            **options,
        }
        return run_workflow(self.folder / str(self.runs), **given)

    def publish(self, **options: Any) -> Run:
        """A run that is about publishing: an equal build is not made again."""
        return self.run(built=self.built, **options)

    def click(self, *, built: Path | None = None, **inputs: str) -> Run:
        """A run by `workflow_dispatch`; its inputs are texts, as GitHub sends them."""
        payload = {"inputs": {"no_browser": "true", **inputs}}
        return self.run(event="workflow_dispatch", payload=payload, ref="refs/heads/main", variables={}, built=built)

    def warm(self) -> Run:
        """A run of the workflow that fills the weights' cache."""
        run = self.run(workflow="warm-weights.yml", event="workflow_dispatch", ref="refs/heads/main", variables={})
        assert run.jobs == {"List": "success", "Warm gpt2": "success"}
        return run

    @property
    def app(self) -> Repository:
        """The app's repository."""
        repository = self.site.repository(APP)
        assert repository is not None
        return repository

    def assets(self, tag: str = TAG) -> dict[str, str]:
        """The sha256 of every file of a public release."""
        release = self.app.published(tag)
        assert release is not None, "the release is not public"
        return {asset.name: asset.sha256 for asset in release.assets}

    def env(self) -> bytes:
        """The app's env file."""
        return self.app.files()["apps/web/.env.production"]

    def assert_untouched(self) -> None:
        """Nothing was changed, and no draft is left."""
        assert self.site.writes() == []
        assert self.app.releases == {}
        assert self.env() == ENV


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a Hub whose gpt2 has twelve small layers."""
    root = tmp_path_factory.mktemp("hub")
    gpt2_folder(root / HUB_MODEL, layers=12)
    return root


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, hub_root: Path) -> Path:
    """The project as a runner checks it out; its registry pins the Hub's small gpt2."""

    def pin(folder: Path) -> None:
        registry = folder / "contract" / "models.json"
        document = json.loads(registry.read_text())
        files = {path.name: {"sha256": sha256(path.read_bytes())} for path in (hub_root / HUB_MODEL).iterdir()}
        with StandInHub(hub_root) as hub:
            document["models"]["gpt2"] |= {"revision": hub.commit(HUB_MODEL), "files": files}
        registry.write_text(json.dumps(document))

    return own_checkout(tmp_path_factory.mktemp("checkout"), change=pin)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What equal builds share."""
    return tmp_path_factory.mktemp("built")


@contextmanager
def fresh_bench(folder: Path, checkout: Path, built: Path, hub_root: Path) -> Iterator[Bench]:
    with StandInHub(hub_root) as hub, StandInGitHub() as site:
        site.add_repository(APP, FILES)
        yield Bench(folder, checkout, site, built, hub)
        assert site.violations == []
        assert site.leaks == []


@pytest.fixture
def bench(tmp_path: Path, checkout: Path, built: Path, hub_root: Path) -> Iterator[Bench]:
    """A fresh GitHub with the app's repository."""
    with fresh_bench(tmp_path, checkout, built, hub_root) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def pushed(
    tmp_path_factory: pytest.TempPathFactory, checkout: Path, built: Path, hub_root: Path
) -> Iterator[tuple[Bench, Run]]:
    """A pushed tag and its run, which several tests look at; what it built is what others publish."""
    with fresh_bench(tmp_path_factory.mktemp("pushed"), checkout, built, hub_root) as fresh:
        yield fresh, fresh.publish()


# -- what makes a release


def test_a_pushed_tag_becomes_a_release_that_the_app_points_at(pushed: tuple[Bench, Run]) -> None:
    bench, run = pushed
    assert run.jobs == ALL_WELL
    assets = bench.assets()
    document = manifest.parse(_asset(bench, "manifest.json"))
    assert assets.keys() == {*document.names} | {"manifest.json", "SHA256SUMS"}
    assert run.attested == assets
    assert all(assets[entry.name] == entry.sha256 for entry in document.files)
    assert document.selection.layers == (11,)
    url = f"{bench.site.url}/{APP}/releases/download/{TAG}/model_fp16.onnx?v=1.0.0-{assets['model_fp16.onnx'][:8]}"
    assert bench.env() == ENV.replace(b"URL=", f"URL={url}".encode()) + b"VITE_MODEL_VERSION=1.0.0\r\n"
    assert [dispatch.workflow for dispatch in bench.app.dispatches] == ["deploy.yml"]


def test_the_app_is_touched_only_after_the_release_is_public(pushed: tuple[Bench, Run]) -> None:
    bench, _ = pushed
    writes = [(request.method, request.path.rpartition("/")[2]) for request in bench.site.writes()]
    public = next(number for number, (method, _) in enumerate(writes) if method == "PATCH")
    assert {what for _, what in writes[1:public]} == {"assets"}
    after = [request.path.removeprefix(f"/repos/{APP}/").partition("/")[0] for request in bench.site.writes()]
    assert after[public + 1 :] == ["contents", "actions"], "the env file, then the deploy workflow"


def test_the_summary_is_a_card_of_the_release(bench: Bench) -> None:
    run = bench.publish(variables={**DEMO, "MODEL_RELEASE_NO_ENV": "true"})
    assert run.jobs == ALL_WELL
    for part in (
        "## model-v1.0.0: the plan",
        "| `model_fp16.onnx` | 3.6 | at or under 50.0 MB |",
        "- clauses that hold in every model file: META01 ",
        f"- release page: {bench.site.url}/{APP}/releases/tag/{TAG}",
        "| source | `demo` |",
        *(f"| `{digest}` |" for name, digest in bench.assets().items() if name.endswith(".onnx")),
        f"- model-v1.0.0 is public: {bench.site.url}/{APP}/releases/download/{TAG}/model_fp16.onnx",
    ):
        assert part in run.summary
    assert bench.env() == ENV


def test_only_the_build_installs_pytorch(pushed: tuple[Bench, Run]) -> None:
    _, run = pushed
    assert sorted(run.installed) == [
        f"build: {LOCKED}full.txt",
        f"plan: {LOCKED}light.txt",
        f"publish: {LOCKED}light.txt",
    ]


@pytest.mark.long
def test_a_browser_judges_the_models_before_they_are_published(
    bench: Bench, tmp_path: Path, tool: Callable[[Callable[[], Any]], Any]
) -> None:
    packages = tool(npm.install)
    tool(executable)

    def prepare(folder: Path) -> None:
        """WebAssembly alone: WebGPU in software takes seconds a file. The packages are installed."""
        (folder / npm.BROWSER.relative_to(ROOT) / "node_modules").symlink_to(packages)
        room = folder / "scripts" / "model_release" / "browser" / "gate.py"
        room.write_text(f"{room.read_text()}\n\nBACKENDS = BACKENDS[:2]\n")

    checkout = own_checkout(tmp_path / "judged", change=prepare, source=bench.checkout)
    run = bench.publish(checkout=checkout, variables={**DEMO, "MODEL_RELEASE_NO_BROWSER": ""})
    assert run.jobs == ALL_WELL
    for model in measured.parse(_asset(bench, "measured.json")).models:
        judged = {entry.backend: entry.runs for entry in model.backends or ()}
        assert judged.keys() == {"wasm, 1 thread", "wasm, 2 threads"}
        assert judged["wasm, 1 thread"]
    assert run.attested.keys() - bench.assets().keys() == {"browser.json"}
    release = bench.app.published(TAG)
    assert release is not None
    assert re.search(r"`model_fp16.onnx` \| 3.6 \| `wasm, 1 thread` \| 1.0000 \|( [\d.]+ \|){6}", release.body or "")
    assert "WASM MB" in run.summary


def test_a_click_chooses_layers_and_a_small_model_lands_where_the_app_serves_it(bench: Bench) -> None:
    run = bench.click(
        version="1.1.0",
        layers="0,5,11",
        context="8",
        precisions="fp16",
        app_precision="fp32",
        size_threshold="200",
        env_file="site/.env",
        create_env_file="true",
        static_dir="site/public",
    )
    assert run.jobs == TINY_WELL
    assert manifest.parse(_asset(bench, "manifest.json", "model-v1.1.0")).model.context == 8
    model = onnx.load_from_string(_asset(bench, "model_fp16.onnx", "model-v1.1.0"))
    seen = {output.name for output in model.graph.output if output.name.endswith("_mlp_output")}
    assert seen == {"layer_0_mlp_output", "layer_5_mlp_output", "layer_11_mlp_output"}
    delivered = bench.app.files()["site/public/models/gpt2/model.onnx"]
    digest = bench.assets("model-v1.1.0")["model.onnx"]
    assert sha256(delivered) == digest
    assert f"VITE_MODEL_URL=models/gpt2/model.onnx?v=1.1.0-{digest[:8]}\n".encode() in bench.app.files()["site/.env"]
    assert bench.app.refs["refs/tags/model-v1.1.0"] == run.commit, "the tag is at the commit of the run"


@pytest.mark.long
def test_the_app_goes_back_to_an_older_release_and_nothing_is_built(bench: Bench) -> None:
    bench.publish()
    old, before = bench.env(), bench.assets()
    bench.app.commit({"apps/web/.env.production": ENV})
    tried = bench.click(point_to=TAG, dry_run="true")
    assert _done(tried) == {"Plan": "success"}
    assert f"{TAG} is whole: model_fp16.onnx, delivered by release" in tried.text
    assert bench.env() == ENV
    run = bench.click(point_to=TAG)
    assert _done(run) == {"Plan": "success", "Point the web app at a release": "success"}
    assert (bench.env(), bench.assets()) == (old, before)
    refused = bench.click(point_to="model-v7.0.0")
    assert _done(refused) == {"Plan": "failure"}
    assert "must be a public release, there is none" in refused.text


def test_a_mirror_gives_the_app_an_address_that_browsers_may_read(bench: Bench, hub_root: Path) -> None:
    (hub_root / "octocat" / "models").mkdir(parents=True)
    (hub_root / "octocat" / "models" / "README.md").write_text("Models.\n")
    mirrored = {**DEMO, "MODEL_RELEASE_DELIVERY": "", "MODEL_RELEASE_MIRROR": "hub:octocat/models"}
    run = bench.publish(variables=mirrored, secrets={"MIRROR_HF_TOKEN": "hf_mirror"})
    assert run.jobs == ALL_WELL
    assert f"VITE_MODEL_URL={bench.hub.url}/octocat/models/resolve/".encode() in bench.env()
    assert manifest.parse(_asset(bench, "manifest.json")).delivery.mode == "release"
    assert f"publish: {LOCKED}mirror.txt" in run.installed


@pytest.mark.long
def test_another_repository_calls_the_workflow_and_releases_two_models(bench: Bench) -> None:
    directory = _repository(bench.folder / "example", EXAMPLE)
    run = bench.publish(workflow="model.yml", directory=directory, variables=UNJUDGED)
    assert run.jobs == ALL_WELL | TINY_WELL
    assets = bench.assets()
    assert run.attested == assets
    release = bench.app.published(TAG)
    assert release is not None
    assert f"gh attestation verify model.onnx --repo {APP} --signer-repo {OWN_REPOSITORY}\n" in (release.body or "")
    plain = manifest.parse(_asset(bench, "manifest.json"))
    companion = manifest.parse(_asset(bench, "gpt2-manifest.json"))
    assert (plain.name, companion.name) == ("demo", "gpt2")
    listed = [*plain.names, *companion.names]
    own = ["manifest.json", "SHA256SUMS", "gpt2-manifest.json", "gpt2-SHA256SUMS"]
    assert sorted(assets) == sorted([*listed, *own])
    assert {"model.onnx", "gpt2-model.onnx", "gpt2-model_fp16.onnx"} <= assets.keys()
    assert f"/{TAG}/model_fp16.onnx?v=1.0.0-{assets['model_fp16.onnx'][:8]}\r\n".encode() in bench.env()


TWO_CALLS = f"""
name: Models
on: {{{{ push: {{{{ branches: [main] }}}} }}}}
jobs:
  web:
    runs-on: ubuntu-24.04
    steps:
      - run: mkdir web && echo page >web/page.html
      - uses: {{upload}}
        with: {{{{ name: dist-web, path: web }}}}
  first:
    needs: web
    uses: {OWN_REPOSITORY}/.github/workflows/release-model.yml@{OWN_COMMIT}
    with: {{{{ tag: model-v1.0.0, model: demo, precisions: fp16, no_env: true, no_browser: true }}}}
  second:
    needs: first
    uses: {OWN_REPOSITORY}/.github/workflows/release-model.yml@{OWN_COMMIT}
    with: {{{{ tag: model-v1.0.0-rc.1, model: demo, precisions: fp16, no_env: true, no_browser: true }}}}
"""


@pytest.mark.long
def test_two_calls_in_one_run_take_nothing_of_each_other_or_of_their_caller(bench: Bench) -> None:
    upload = next(step["uses"] for step in steps_of(load(RELEASE)) if "upload-artifact@" in step.get("uses", ""))
    directory = bench.folder / "caller"
    workflow = directory / ".github" / "workflows" / "models.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(TWO_CALLS.format(upload=upload))
    main = "refs/heads/main"
    run = bench.publish(workflow="models.yml", directory=_repository(directory), ref=main, variables={})
    assert run.exit_code == 0
    kept = sorted(path.name for path in (run.state / "artifacts").iterdir())
    assert kept == ["dist-web", "model-release_model-v1.0.0-rc.1_demo", "model-release_model-v1.0.0_demo"]
    assert "page.html" not in {*run.attested, *bench.assets(), *bench.assets("model-v1.0.0-rc.1")}
    for tag in ("model-v1.0.0", "model-v1.0.0-rc.1"):
        assert manifest.parse(_asset(bench, "manifest.json", tag)).tag == tag


def test_a_server_that_does_not_say_whose_workflow_it_is_ends_the_run(bench: Bench, tmp_path: Path) -> None:
    """GitHub Enterprise Server leaves `job.workflow_repository` empty, and act does: that is not the caller's."""

    def as_published(folder: Path) -> None:
        copy = folder / ".github" / "workflows" / RELEASE.name
        copy.write_text(RELEASE.read_text().replace("queue: max", "# queue: max"))

    checkout = own_checkout(tmp_path / "as_published", change=as_published, source=bench.checkout)
    run = bench.run(checkout=checkout)
    assert run.jobs == {"Plan": "failure"}
    assert "checkout must be told a repository and its commit" in run.text
    bench.assert_untouched()


@pytest.mark.long
def test_the_released_model_is_fetched_into_a_web_app_that_serves_it_itself(bench: Bench) -> None:
    app = ROOT / "tests" / "web_app"
    files = {path.relative_to(app).as_posix(): path.read_bytes() for path in _tracked(app)}
    bench.site.add_repository(APP, files)
    assert bench.publish(variables={**DEMO, "MODEL_RELEASE_ENV_FILE": ".env.production"}).jobs == ALL_WELL
    clone = bench.folder / "clone"
    for name, content in bench.app.files().items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes(content)
    run = bench.run(
        checkout=_repository(clone), own=bench.checkout, workflow="deploy.yml", event="workflow_dispatch", variables={}
    )
    assert run.jobs == {"Build": "success"}
    site = run.state / "artifacts" / "site"
    digest = bench.assets()["model_fp16.onnx"]
    script = "".join(path.read_text() for path in site.glob("assets/*.js"))
    assert f"models/demo/model_fp16.onnx?v=1.0.0-{digest[:8]}" in script
    assert bench.site.url not in script
    assert sha256((site / "models" / "demo" / "model_fp16.onnx").read_bytes()) == digest


# -- again, and by halves


@pytest.mark.long
def test_a_run_after_a_success_writes_nothing_and_needs_no_hub(bench: Bench) -> None:
    bench.warm()
    assert bench.publish(variables=TINY).jobs == TINY_WELL
    before, released = len(bench.site.writes()), bench.assets()
    run = bench.run(variables=TINY, hub_url=NOWHERE)
    assert _done(run) == {"Plan": "success", "Point the web app at a release": "success"}
    assert "is public and is what is asked for: nothing has to be built" in run.text
    assert len(bench.site.writes()) == before
    assert bench.assets() == released


@pytest.mark.long
def test_warming_again_only_reads_the_cache(bench: Bench) -> None:
    bench.warm()
    asked = len(bench.hub.requests)
    run = bench.warm()
    assert run.calls("actions/cache/save") == []
    assert run.installed == [f"list: {LOCKED}light.txt"]
    assert len(bench.hub.requests) == asked


def test_an_upload_that_breaks_off_is_finished(bench: Bench) -> None:
    bench.site.faults = [Fault("502", method="POST", path="/uploads/*", nth=3)]
    run = bench.publish()
    assert run.jobs == ALL_WELL
    assert bench.assets() == run.attested


def test_another_machines_half_draft_becomes_the_release_that_is_attested(bench: Bench) -> None:
    bench.app.create_tag(TAG)
    theirs = {"model.onnx": b"of other digits", "measured.json": b"{}", "model_int4.onnx": b"of another request"}
    bench.app.add_release(TAG, theirs, draft=True).assets[0].state = "starter"
    run = bench.publish()
    assert run.jobs == ALL_WELL
    assert bench.assets() == run.attested
    assert [release.draft for release in bench.app.releases.values()] == [False]
    document = manifest.parse(_asset(bench, "manifest.json"))
    assert {entry.name: entry.sha256 for entry in document.files}.items() <= run.attested.items()


def test_a_protected_branch_gets_a_pull_request(bench: Bench) -> None:
    bench.site.add_repository(APP, FILES, protected={"main": RULESET})
    run = bench.publish()
    assert run.jobs == ALL_WELL
    assert bench.env() == ENV
    (pull,) = bench.app.open_pulls()
    assert b"?v=1.0.0-" in bench.app.files(pull.head)["apps/web/.env.production"]
    assert f"waits in {bench.site.url}/{APP}/pull/{pull.number}" in run.summary, "the next step is in the summary"


def test_a_dry_run_builds_everything_and_writes_nothing(bench: Bench) -> None:
    run = bench.click(tag=TAG, model="demo", precisions="fp16", delivery="release", dry_run="true", built=bench.built)
    assert _done(run) == TRIED
    assert "would be made public as a release; nothing was changed" in run.text
    assert run.attested == {}
    bench.assert_untouched()


# -- what must not become a release


@pytest.mark.long
def test_a_model_that_is_not_pytorchs_is_not_published(bench: Bench, tmp_path: Path) -> None:
    def demand_the_impossible(folder: Path) -> None:
        contract = folder / "contract" / "activations.json"
        document = json.loads(contract.read_text())
        for limits in document["precisions"]["fp32"]["tolerances"].values():
            limits.update(dict.fromkeys(limits, 0))
        contract.write_text(json.dumps(document))

    strict = own_checkout(tmp_path / "strict", change=demand_the_impossible, source=bench.checkout)
    run = bench.run(checkout=strict, variables=TINY)
    assert run.jobs == {"Plan": "success", "Build gpt2": "failure"}
    assert "::error title=build.py::" in run.text
    bench.assert_untouched()


def test_what_publishing_would_refuse_ends_the_run_before_anything_is_built(bench: Bench) -> None:
    bench.app.commit({"apps/web/.env.production": None})
    run = bench.run()
    assert run.jobs == {"Plan": "failure"}
    assert "::error title=doctor.py::apps/web/.env.production must exist in someone/app." in run.text
    assert "| refused | env file | apps/web/.env.production must exist" in run.summary
    assert bench.site.writes() == []


@pytest.mark.long
def test_poisoned_weights_end_the_run(bench: Bench) -> None:
    bench.warm()
    (weights,) = (path for path in _cached(bench) if path.name == "model.safetensors")
    blob = weights.resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run = bench.run(variables=TINY)
    assert run.jobs == {"Plan": "success", "Build gpt2": "failure"}
    assert f"must have the sha256 {sha256(content)}, got {sha256(blob.read_bytes())}" in run.text
    assert "::error title=build.py::model.safetensors of openai-community/gpt2" in run.text
    bench.assert_untouched()


def test_a_hub_that_is_down_is_named(bench: Bench) -> None:
    run = bench.run(variables=TINY, hub_url=NOWHERE)
    assert run.jobs == {"Plan": "success", "Build gpt2": "failure"}
    assert f"::error title=build.py::{NOWHERE} must answer for" in run.text
    bench.assert_untouched()


def test_a_token_that_may_only_read_is_refused_in_one_sentence(bench: Bench) -> None:
    run = bench.publish(token="read-token")  # noqa: S106 - the stand-in's
    assert run.jobs == ALL_WELL | {"Publish": "failure"}
    assert "::error title=publish.py::" in run.text
    assert "contents: write" in run.text
    bench.assert_untouched()


@pytest.mark.parametrize("layers", ["0;touch pwned", "$(touch pwned)"])
def test_hostile_layers_reach_no_shell(bench: Bench, layers: str) -> None:
    _refuses(bench, lambda: bench.click(tag=TAG, model="demo", layers=layers))


@pytest.mark.parametrize("tag", ["model-v1.0.0;touch${IFS}pwned", "model-v$(touch${IFS}pwned)"])
def test_a_hostile_tag_reaches_no_shell(bench: Bench, tag: str) -> None:
    _refuses(bench, lambda: bench.run(ref=f"refs/tags/{tag}"))


def _done(run: Run) -> dict[str, str]:
    """The jobs that were not skipped."""
    return {name: result for name, result in run.jobs.items() if result != "skipped"}


def _refuses(bench: Bench, attempt: Callable[[], Run]) -> None:
    run = attempt()
    assert run.jobs == {"Plan": "failure"}
    assert run.text.count("::error title=plan.py::") == 1
    assert list(bench.folder.rglob("pwned")) == []
    assert bench.site.requests == []


def _asset(bench: Bench, name: str, tag: str = TAG) -> bytes:
    release = bench.app.published(tag)
    assert release is not None
    (asset,) = (asset for asset in release.assets if asset.name == name)
    return asset.file.read_bytes()


def _key(bench: Bench) -> str:
    return f"weights-openai-community--gpt2-{bench.hub.commit(HUB_MODEL)}"


def _cached(bench: Bench) -> list[Path]:
    return sorted((bench.folder / "state" / "caches" / _key(bench)).rglob("*"))


def _tracked(folder: Path) -> list[Path]:
    """A folder's files, without what npm may have left there."""
    return [path for path in folder.rglob("*") if path.is_file() and "node_modules" not in path.parts]


def _repository(folder: Path, source: Path | None = None) -> Path:
    """A folder as a git repository, which act asks for."""
    if source is not None:
        shutil.copytree(source, folder)
    return own_checkout(folder, source=folder)
