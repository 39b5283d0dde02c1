"""The whole chain, in order: weights -> export -> quantize -> verify -> size gate -> package -> release -> env file.

The env file comes last, so that the app never points at nothing. What can be refused without work
is refused before the work.
"""

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model_release import envfile, manifest
from model_release.appfiles import MODELS_FOLDER, delivered_names, version_query
from model_release.checks import stored_bytes
from model_release.contract import CONTRACT_FOLDER, FULL_PRECISION, Selection, load_contract, model_file_name
from model_release.errors import ContractError, EnvFileError, ExportError, HostError, ReleaseError, UsageError
from model_release.files import atomic_path, write_bytes
from model_release.hosts import Host
from model_release.plan import Action
from model_release.publishing import publish
from model_release.shadows import URL_KEY, VERSION_KEY, find_shadows_beside
from model_release.steps import (
    Progress,
    SelectionRequest,
    SourceRequest,
    export_weights,
    load_weights,
    pytorch_reference,
    quantize_model,
    text_ids,
    verify_weights,
)
from model_release.tags import ReleaseTag

if TYPE_CHECKING:
    from model_release.hosts.github_app import AppResult
    from model_release.pointing import AppPointer
    from model_release.verification import Verification
    from model_release.weights import Weights

CONTRACT_FILES = ("activations.json", "ACTIVATIONS_CONTRACT.md")

_CONFIG = "config.json"
_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "tokenizers")
_STEPS = 9

Delivery = Literal["auto", "git", "release"]


@dataclass(frozen=True, kw_only=True)
class AppRequest:
    """Where the web app learns its model's URL.

    Attributes:
        env_file: The env file to edit; it must exist unless `create_env_file`.
        static_dir: The folder the app serves at its base; models delivered by git go below it.
    """

    env_file: Path
    static_dir: Path
    create_env_file: bool = False


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What to release, where, and how it reaches the app.

    Attributes:
        precisions: What is made besides `model.onnx`.
        app_precision: The precision the app gets.
        threshold_bytes: Largest model that may live in the app's tree.
        app: None leaves the app alone.
        replace: Whether a published release may change.
        point: Points the web app's repository at the public release; in place of `app`.
    """

    tag: ReleaseTag
    source: SourceRequest
    selection: SelectionRequest
    precisions: tuple[str, ...]
    app_precision: str
    delivery: Delivery
    threshold_bytes: int
    app: AppRequest | None
    replace: bool = False
    point: "AppPointer | None" = None

    def __post_init__(self) -> None:
        if self.app_precision not in (FULL_PRECISION, *self.precisions):
            raise UsageError(
                f"--app-precision must be fp32 or one of --precision, "
                f"got {self.app_precision[:60]!r} with {', '.join(self.precisions)}. Add it to --precision."
            )
        if self.threshold_bytes < 0:
            raise UsageError("--size-threshold must not be negative. The default is 50 (MB).")


@dataclass(frozen=True, kw_only=True)
class ReleaseResult:
    """What was released.

    Attributes:
        document: The manifest.
        actions: What was done at the host.
        model_url: What the env file says; empty without an app.
        env_changed: Whether the env file was written.
        pointed: What became of the web app's repository, if the release was to change it.
    """

    document: dict[str, Any]
    actions: tuple[Action, ...]
    model_url: str
    env_changed: bool
    pointed: "AppResult | None" = None


def release_model(request: ReleaseRequest, host: Host, progress: Progress) -> ReleaseResult:
    """Makes, verifies and publishes a release, then points the app at it.

    Raises:
        ReleaseError: Of the step that failed. Before the release is complete nothing is public, and
            the env file is written only after it.
    """
    step = _numbered(progress)
    step("plan", f"{request.tag.text} from {request.source.describe()}")
    if request.app is not None:
        _check_app(request.app)
    if request.point is not None:
        request.point.check()
    host.patiently(lambda: host.state(request.tag.text))  # A host that is out of reach or refuses us says so now.
    with ExitStack() as folders:
        dist = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="model-release-")))
        step("weights", request.source.describe())
        weights = load_weights(request.source, progress)
        selection = request.selection.resolve(weights.shape.layers)
        text = text_ids(weights)
        _require_fit(request, stored_bytes(weights.shape, load_contract().precision(request.app_precision)))
        model = dist / model_file_name(FULL_PRECISION)
        step("export", f"layers {','.join(map(str, selection.layers))}, opset {request.selection.opset}")
        export_weights(weights, selection, request.selection.opset, model, progress=_nothing)
        step("quantize", ", ".join(request.precisions))
        quantize_model(model, request.precisions, dist)
        step("verify", f"{1 + len(request.precisions)} files against PyTorch and the contract")
        verifications = _verify_all(weights, text, (FULL_PRECISION, *request.precisions), dist, progress)
        delivery = _decide_delivery(request, dist)
        step("size gate", _describe_delivery(delivery))
        step("package", "tokenizer, config, contract, manifest, checksums")
        measured_on = "validation text" if text else "random tokens"
        document = _package(request, weights, selection, verifications, measured_on, delivery, dist)
        published = publish(
            dist,
            request.tag,
            host,
            replace=request.replace,
            planned=lambda actions: step("release", _describe_actions(actions)),
        )
        url, changed, pointed = "", False, None
        if request.app is not None:
            url = _deliver(request, request.app, document, host, dist)
            values = {URL_KEY: url, VERSION_KEY: request.tag.version}
            changed = _write_env(request.app, values, progress)
            for warning in find_shadows_beside(request.app.env_file, values, {}):
                progress(f"warning: {warning}")
        if request.point is not None:
            pointed, url = request.point.point(document, dist, published.model_url)
        step("env file", f"{URL_KEY}={url}" if url else "left alone")
    return ReleaseResult(
        document=document, actions=published.actions, model_url=url, env_changed=changed, pointed=pointed
    )


def describe_release(request: ReleaseRequest, host: Host, progress: Progress) -> list[list[str]]:
    """What `release_model` would make, without making it: rows of file, MB and what is known of it.

    Weights are located and checked (a Hub's are downloaded into its cache); nothing else is written.
    """
    if request.app is not None:
        _check_app(request.app)
    weights = load_weights(request.source, progress)
    selection = request.selection.resolve(weights.shape.layers)
    outputs = load_contract().expected_outputs(weights.shape, selection)
    rows = []
    for name in (FULL_PRECISION, *request.precisions):
        size_bytes = stored_bytes(weights.shape, load_contract().precision(name))
        verdict = "at or under" if size_bytes <= request.threshold_bytes else "over"
        rows.append(
            [
                model_file_name(name),
                f"about {size_bytes / 1e6:.1f}",
                f"{len(outputs)} outputs, {verdict} the {request.threshold_bytes / 1e6:g} MB threshold",
            ]
        )
    rows += [[name, "", "copied"] for name in (*weights.tokenizer_files, _CONFIG, *CONTRACT_FILES)]
    rows += [[name, "", "written"] for name in (manifest.MANIFEST_NAME, manifest.CHECKSUMS_NAME)]
    taken = host.state(request.tag.text) is not None
    rows.append(
        [
            request.tag.text,
            "",
            "there already: equal content is kept, other content refused"
            if taken and not request.replace
            else "released",
        ]
    )
    if request.app is not None:
        rows.append([str(request.app.env_file), "", f"{URL_KEY} and {VERSION_KEY} set, after the release"])
    return rows


def _numbered(progress: Progress) -> Callable[[str, str], None]:
    """Progress lines that count the steps."""
    count = iter(range(1, _STEPS + 1))
    return lambda name, detail: progress(f"[{next(count)}/{_STEPS}] {name:<10} {detail}")


def _nothing(_: str) -> None:
    """The chain's own line says it."""


def _check_app(app: AppRequest) -> None:
    """Everything about the env file that can fail, before any work is done.

    Raises:
        EnvFileError: It is missing, unreadable, not writable, or our keys in it are ambiguous.
    """
    _edited(app, {URL_KEY: "x", VERSION_KEY: "x"})
    if not _existing_parent(app.env_file).is_dir():
        raise EnvFileError(f"{app.env_file} must be in a folder, got a file in its place. Correct --env-file.")
    if not _existing_parent(app.static_dir / MODELS_FOLDER).is_dir():
        raise HostError(f"{app.static_dir} must be a folder, got a file in its place. Correct --static-dir.")
    target = app.env_file if app.env_file.exists() else _existing_parent(app.env_file)
    if not _writable(target) or not _writable(_existing_parent(app.env_file)):
        raise EnvFileError(
            f"{app.env_file} must be writable. Give it and its folder write permission, or choose another --env-file."
        )


def _exists(path: Path) -> bool:
    """Whether something is there.

    Raises:
        EnvFileError: No file system can hold such a path.
    """
    try:
        return path.exists()
    except OSError as failure:
        raise EnvFileError(f"{path.name[:40]} must be a path: {failure.strerror}. Correct --env-file.") from failure


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _writable(path: Path) -> bool:
    """Whether permission bits allow writing; root, whom they do not stop, respects them here too."""
    return bool(path.stat().st_mode & 0o222)


def _edited(app: AppRequest, values: dict[str, str]) -> tuple[str, str]:
    """The env file's text before and after our keys are set."""
    if _exists(app.env_file) and not app.env_file.is_file():
        raise EnvFileError(f"{app.env_file} must be a file, it is a directory or a device. Correct --env-file.")
    if not _exists(app.env_file) and app.create_env_file:
        before = ""
    else:
        try:
            with app.env_file.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                before = file.read()
        except FileNotFoundError as failure:
            raise EnvFileError(
                f"{app.env_file} must exist. Create it, an empty file will do, or give --create-env-file."
            ) from failure
        except OSError as failure:
            raise EnvFileError(
                f"{app.env_file} must be a readable file, got: {failure.strerror}. Correct --env-file."
            ) from failure
    return before, envfile.set_values(before, values)


def _write_env(app: AppRequest, values: dict[str, str], progress: Progress) -> bool:
    """Sets our keys, showing each line that changes; unchanged content writes nothing."""
    before, after = _edited(app, values)
    if before == after and app.env_file.exists():
        return False
    old, new = before.splitlines(), after.splitlines()
    for line in (line for line in old if line not in new):
        progress(f"  - {line}")
    for line in (line for line in new if line not in old):
        progress(f"  + {line}")
    write_bytes(app.env_file, after.encode("utf-8", errors="surrogateescape"), error=EnvFileError)
    return True


def _verify_all(
    weights: "Weights", text: Sequence[int], precisions: Sequence[str], dist: Path, progress: Progress
) -> dict[str, "Verification"]:
    """Verifies every file against one PyTorch model; fails once, after all were looked at."""
    reference = pytorch_reference(weights)
    results = {}
    for precision in precisions:
        name = model_file_name(precision)
        results[precision] = result = verify_weights(dist / name, name, reference, text, progress=_nothing)
        measured = result.agreement
        figures = f", mean KL {measured.mean_kl:.1e} nats, top-1 {measured.top1:.1%}" if measured else ""
        progress(
            f"      {name}: "
            f"{f'{len(result.clauses)} clauses hold' if result.passed else f'{len(result.findings)} findings'}{figures}"
        )
        for finding in result.findings:
            progress(f"      {finding}")
    for result in results.values():
        result.require()
    return results


def _decide_delivery(request: ReleaseRequest, dist: Path) -> dict[str, Any]:
    """The size gate: at or under the threshold the app's model may live in its tree.

    Raises:
        UsageError: See `_require_fit`.
    """
    file = model_file_name(request.app_precision)
    size_bytes = (dist / file).stat().st_size
    within = size_bytes <= request.threshold_bytes
    _require_fit(request, size_bytes)
    mode = ("git" if within else "release") if request.delivery == "auto" else request.delivery
    return {
        "asked": request.delivery,
        "mode": mode,
        "file": file,
        "precision": request.app_precision,
        "size_bytes": size_bytes,
        "threshold_bytes": request.threshold_bytes,
        "within_threshold": within,
    }


def _require_fit(request: ReleaseRequest, size_bytes: int) -> None:
    """Refuses `--delivery git` for a model over the threshold; asked first of its weights alone, before any work."""
    if request.delivery == "git" and size_bytes > request.threshold_bytes:
        raise UsageError(
            f"--delivery git needs a model of at most {request.threshold_bytes / 1e6:g} MB, "
            f"{model_file_name(request.app_precision)} has {size_bytes / 1e6:.1f} MB. "
            "Choose a smaller precision, --delivery release, or another --size-threshold."
        )


def _describe_delivery(delivery: dict[str, Any]) -> str:
    sign = "≤" if delivery["within_threshold"] else ">"
    return (
        f"{delivery['file']} {delivery['size_bytes'] / 1e6:.1f} MB {sign} "
        f"{delivery['threshold_bytes'] / 1e6:g} MB: delivery {delivery['mode']}"
    )


def _package(
    request: ReleaseRequest,
    weights: "Weights",
    selection: Selection,
    verifications: dict[str, "Verification"],
    measured_on: str,
    delivery: dict[str, Any],
    dist: Path,
) -> dict[str, Any]:
    """Completes `dist`: tokenizer, config, contract, manifest and checksums beside the models."""
    for name in (*weights.tokenizer_files, _CONFIG):
        _copy(weights.folder / name, dist / name, error=ExportError)
    for name in CONTRACT_FILES:
        _copy(CONTRACT_FOLDER / name, dist / name, error=ExportError)
    files = manifest.describe_files(dist, [path.name for path in dist.iterdir()])
    document = {
        "manifest_version": manifest.MANIFEST_VERSION,
        "tag": request.tag.text,
        "version": request.tag.version,
        "name": request.source.name,
        "contract_version": load_contract().version,
        "model": {
            "source": weights.source,
            "revision": weights.revision,
            "weights_sha256": weights.sha256,
            "weights": [asdict(file) for file in weights.files],
            "parameters": weights.shape.parameter_count,
            "shape": asdict(weights.shape),
        },
        "selection": {
            "layers": list(selection.layers),
            "activations": list(selection.activations),
            "logits": selection.logits,
            "opset": request.selection.opset,
        },
        "delivery": delivery,
        "variants": [
            _variant(precision, result, measured_on, request.threshold_bytes)
            for precision, result in verifications.items()
        ],
        "files": [asdict(file) for file in files],
        "made_with": {library: importlib.metadata.version(library) for library in _LIBRARIES},
    }
    write_bytes(dist / manifest.MANIFEST_NAME, manifest.render(document), error=ExportError)
    described = (*files, *manifest.describe_files(dist, [manifest.MANIFEST_NAME]))
    write_bytes(dist / manifest.CHECKSUMS_NAME, manifest.checksums(described), error=ExportError)
    return document


def _variant(precision: str, result: "Verification", measured_on: str, threshold_bytes: int) -> dict[str, Any]:
    """A model file's entry of the manifest: what it is, and what was measured on it."""
    terms = load_contract().precision(precision)
    measured = result.agreement
    if measured is None:
        raise ContractError(f"{result.file} must have been compared with PyTorch. Report this as a defect.")
    return {
        "file": result.file,
        "precision": precision,
        "stored": terms.stored,
        "computed": terms.computed,
        "size_bytes": result.file_bytes,
        "within_threshold": result.file_bytes <= threshold_bytes,
        "clauses": list(result.clauses),
        "deviations": [
            {
                "kind": item.kind,
                "max_abs": manifest.rounded(item.max_abs),
                "relative": manifest.rounded(item.relative),
                "cosine": round(item.cosine, 4),
            }
            for item in result.deviations
        ],
        "agreement": {
            "text": measured_on,
            "positions": measured.positions,
            "mean_kl_nats": manifest.rounded(measured.mean_kl),
            "top1": round(measured.top1, 3),
            "top1_or_tie": round(measured.top1_or_tie, 3),
        },
    }


def _describe_actions(actions: Sequence[Action]) -> str:
    """What happens at the host, in one line."""
    return ", ".join(f"{action.kind} {action.name}" for action in actions if action.kind != "keep") or "nothing to do"


def _deliver(request: ReleaseRequest, app: AppRequest, document: dict[str, Any], host: Host, dist: Path) -> str:
    """Puts the model where the app will look for it, and returns its URL with `?v=`."""
    file = document["delivery"]["file"]
    sha256 = next(entry["sha256"] for entry in document["files"] if entry["name"] == file)
    query = f"?v={version_query(request.tag.version, sha256)}"
    if document["delivery"]["mode"] == "release":
        return host.patiently(lambda: host.asset_url(request.tag.text, file)) + query
    # Relative to the app's base, which its bundler knows and we do not.
    folder = f"{MODELS_FOLDER}/{request.source.name}"
    for name in (*delivered_names(document, file), manifest.MANIFEST_NAME):
        _copy(dist / name, app.static_dir / folder / name, error=HostError)
    return f"{folder}/{file}{query}"


def _copy(source: Path, target: Path, *, error: type[ReleaseError]) -> None:
    """Copies a file whole or not at all."""
    with atomic_path(target, error=error) as temporary:
        shutil.copyfile(source, temporary)
