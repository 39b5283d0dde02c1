"""The command line: options, help texts, exit codes. It translates; `steps.py` and `chain.py` act.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from model_release.errors import ReleaseError, UsageError

if TYPE_CHECKING:
    from model_release.chain import Delivery
    from model_release.contract import Logits
    from model_release.hosts.local import LocalHost
    from model_release.steps import SourceRequest

DEFAULT_OUTPUT = Path("apps/web/static/models/gpt2/model.onnx")
DEFAULT_ENV_FILE = Path("apps/web/.env.production")

_INTERRUPTED = 130
_TERMINATED = 143
_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path)


def run(command: click.Command) -> None:
    """Runs a command as a program: one sentence and the right exit code for every explained failure."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = command.main(standalone_mode=False, prog_name=f"python scripts/{command.name}.py")
    except ReleaseError as failure:
        _fail(str(failure), failure.exit_code)
    except click.UsageError as failure:
        _fail(f"{failure.format_message()} See python scripts/{command.name}.py --help.", 2)
    except click.ClickException as failure:
        _fail(failure.format_message(), failure.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted. Nothing half-written is left behind; run it again.", _INTERRUPTED)
    except BrokenPipeError:
        # The reader, e.g. `head`, has seen enough. Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as failure:
        # Rooms explain the files they write; this is what no room foresaw, such as a full temporary folder.
        _fail(f"the system refused: {failure}. Free space or permissions and run it again.", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(status)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM unwinds the stack, so that temporary files are removed."""
    sys.exit(_TERMINATED)


def _progress(message: str) -> None:
    click.echo(message, err=True)


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_source_options = _options(
    click.option("--model", metavar="ID", help="A key of contract/models.json, or a Hugging Face id. [default: gpt2]"),
    click.option(
        "--model-path",
        type=_FOLDER,
        metavar="DIR",
        help="A folder with config.json and model.safetensors or pytorch_model.bin.",
    ),
    click.option("--demo", is_flag=True, help="The small GPT-2 that comes with this repository."),
    click.option("--revision", metavar="SHA", help="Commit of the model's repository. [default: the pinned one]"),
)

_selection_options = _options(
    click.option(
        "--layers",
        metavar="LIST",
        help="Layers to see: numbers, ranges, negatives, e.g. 0,5,11 or 0-3 or -1. [default: the last]",
    ),
    click.option("--all-layers", is_flag=True, help="See every layer. The file stays as small, each run returns more."),
    click.option(
        "--activations",
        metavar="NAMES",
        help="all, or names of the contract; default stands for the default ones, e.g. default,q,k.",
    ),
    click.option(
        "--logits",
        type=click.Choice(["all", "last"]),
        default="all",
        show_default=True,
        help="Logits of all positions, or of the last one.",
    ),
    click.option("--opset", type=int, default=20, show_default=True, help="ONNX opset, 18 to 25."),
)


def _source(model: str | None, model_path: Path | None, demo: bool, revision: str | None) -> "SourceRequest":
    from model_release.steps import SourceRequest

    return SourceRequest(model=model, folder=model_path, demo=demo, revision=revision)


@click.command()
@_source_options
@_selection_options
@click.option("--output", type=_FOLDER, default=DEFAULT_OUTPUT, show_default=True, help="The file to write.")
@click.option("--verify", is_flag=True, help="Keep the file only if it fulfils the contract and equals PyTorch.")
def export(
    *,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    output: Path,
    verify: bool,
    **source: Any,  # noqa: ANN401 - passed on to `_source`
) -> None:
    """Export GPT-2 from PyTorch to ONNX, with its intermediate activations as outputs."""
    from model_release.steps import SelectionRequest, export_model

    selection = SelectionRequest(
        layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
    )
    result = export_model(_source(**source), selection, output, verify=verify, progress=_progress)
    if result is not None:
        from model_release.report import render_verification

        click.echo(render_verification(result, "text"))
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.option("--model", type=_FOLDER, required=True, metavar="PATH", help="The model.onnx that export.py made.")
@click.option(
    "--precision", required=True, metavar="NAMES", help="One or more of fp16, int8-dynamic, separated by commas."
)
@click.option("--output-dir", type=_FOLDER, required=True, metavar="DIR", help="Where model_<precision>.onnx goes.")
def quantize(*, model: Path, precision: str, output_dir: Path) -> None:
    """Store a model's weights in fewer bits, as model_fp16.onnx, model_int8_dynamic.onnx and so on."""
    from model_release.contract import parse_precisions
    from model_release.steps import quantize_model

    for path in quantize_model(model, parse_precisions(precision), output_dir, progress=_progress):
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.option("--model", type=_FOLDER, required=True, metavar="PATH", help="The ONNX file to verify.")
@click.option(
    "--reference", metavar="DIR|ID", help="The PyTorch weights it was made from: a folder, demo, or a model id."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)
def verify(*, model: Path, reference: str | None, style: str) -> None:
    """Run a model on dummy input, print its outputs, and compare it with the contract and with PyTorch."""
    from model_release.report import render_verification
    from model_release.steps import SourceRequest, verify_model

    request = None
    if reference == "demo":
        request = SourceRequest(demo=True)
    elif reference is not None and (Path(reference).exists() or _looks_like_a_path(reference)):
        request = SourceRequest(folder=Path(reference))
    elif reference is not None:
        request = SourceRequest(model=reference)
    result = verify_model(model, request, progress=_progress)
    click.echo(render_verification(result, style))
    result.require()


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release's tag, e.g. model-v1.0.0.")
@_source_options
@_selection_options
@click.option(
    "--precision",
    default="fp16,int8-dynamic",
    show_default=True,
    metavar="NAMES",
    help="Precisions to release besides fp32.",
)
@click.option(
    "--app-precision", metavar="NAME", help="The precision the web app gets. [default: the first of --precision]"
)
@click.option(
    "--host",
    default="local:out/releases",
    show_default=True,
    metavar="HOST",
    help="Where the release goes: local:DIR puts it at DIR/<tag>/.",
)
@click.option("--base-url", default="", metavar="URL", help="Where the folder of --host local:DIR is served.")
@click.option(
    "--delivery",
    type=click.Choice(["auto", "git", "release"]),
    default="auto",
    show_default=True,
    help="How the app gets its model; auto decides by size.",
)
@click.option(
    "--size-threshold",
    type=float,
    default=50,
    show_default=True,
    metavar="MB",
    help="Largest model for the app's tree, in MB (10^6 bytes).",
)
@click.option("--env-file", type=_FOLDER, default=DEFAULT_ENV_FILE, show_default=True, help="The web app's env file.")
@click.option(
    "--static-dir",
    type=_FOLDER,
    metavar="DIR",
    help="What the app serves at its base. [default: static beside the env file]",
)
@click.option("--create-env-file", is_flag=True, help="Make the env file if it is missing.")
@click.option("--no-env", is_flag=True, help="Leave the web app alone.")
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and write nothing.")
def release(
    *,
    tag: str,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    precision: str,
    app_precision: str | None,
    host: str,
    base_url: str,
    delivery: "Delivery",
    size_threshold: float,
    env_file: Path,
    static_dir: Path | None,
    create_env_file: bool,
    no_env: bool,
    replace: bool,
    dry_run: bool,
    **source: Any,  # noqa: ANN401 - passed on to `_source`
) -> None:
    """Make a release in one go: export, quantize, verify, size gate, package, publish, env file."""
    from model_release.chain import AppRequest, ReleaseRequest, describe_release, release_model
    from model_release.contract import parse_precisions
    from model_release.report import megabytes, table
    from model_release.steps import SelectionRequest
    from model_release.tags import parse_tag

    precisions = parse_precisions(precision)
    app = AppRequest(
        env_file=env_file, static_dir=static_dir or env_file.parent / "static", create_env_file=create_env_file
    )
    request = ReleaseRequest(
        tag=parse_tag(tag),
        source=_source(**source),
        selection=SelectionRequest(
            layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
        ),
        precisions=precisions,
        app_precision=app_precision or precisions[0],
        delivery=delivery,
        threshold_bytes=_bytes(size_threshold),
        app=None if no_env else app,
        replace=replace,
    )
    place, folder = _host(host, base_url)
    if dry_run:
        rows = describe_release(request, place, _progress)
        click.echo(
            f"{request.tag.text} would go to {folder / request.tag.text}; "
            f"nothing is written.\n\n{table(['file', 'MB', ''], rows, right=[1])}"
        )
        return
    result = release_model(request, place, _progress)
    variants = {variant["file"]: variant for variant in result.document["variants"]}
    rows = []
    for entry in result.document["files"]:
        variant = variants.get(entry["name"])
        checks = (
            f"{len(variant['clauses'])} clauses hold, KL {variant['agreement']['mean_kl_nats']:.0e}, "
            f"top-1 {variant['agreement']['top1']:.1%}"
            if variant
            else ""
        )
        rows.append([entry["name"], megabytes(entry["size_bytes"]), variant["precision"] if variant else "", checks])
    click.echo("\n" + table(["file", "MB", "precision", "checks"], rows, right=[1]))
    click.echo(f"\nrelease:  {folder / request.tag.text}")
    if request.app is not None:
        click.echo(
            f"env file: {env_file} ({'written' if result.env_changed else 'unchanged'}): "
            f"VITE_MODEL_URL={result.model_url}"
        )


def _looks_like_a_path(text: str) -> bool:
    """Whether a reference means a folder, even one that is missing: a Hub id is `name` or `org/name`."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1


def _bytes(megabytes: float) -> int:
    """MB as whole bytes; refuses what is no size."""
    if not 0 <= megabytes <= 1e9:
        raise UsageError(f"--size-threshold must be a size in MB, got {megabytes:g}. The default is 50.")
    return round(megabytes * 1e6)


def _host(text: str, base_url: str) -> tuple["LocalHost", Path]:
    """The host that `--host` names."""
    from model_release.hosts.local import LocalHost

    kind, _, folder = text.partition(":")
    if kind != "local" or not folder:
        raise UsageError(f"--host must be local:DIR, got {text[:80]!r}. Use e.g. local:out/releases.")
    return LocalHost(Path(folder), base_url=base_url), Path(folder)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if a document is not up to date.")
def docs(*, check: bool) -> None:
    """Write the contract's tables and the commands' help into the Markdown documents."""
    from model_release.documents import documents
    from model_release.errors import ManifestError
    from model_release.files import write_bytes

    for path, text in documents(COMMANDS).items():
        if path.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise ManifestError(
                f"{path.name} must hold what its sources say. Run python scripts/docs.py and commit the result."
            )
        write_bytes(path, text.encode(), error=ManifestError)
        click.echo(f"{path.name}: written")


COMMANDS = (export, quantize, verify, release, docs)
"""Every command; the README shows their help in this order."""
