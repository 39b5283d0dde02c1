"""Options that several commands share, and how commands talk to people."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from model_release.base.errors import UsageError
from model_release.base.version import VERSION

if TYPE_CHECKING:
    from model_release.contract.request import SelectionRequest
    from model_release.contract.tag import ReleaseTag
    from model_release.model.weights.source import SourceRequest
    from model_release.release.request import BuildRequest, Delivery

DEFAULT_OUTPUT = Path("apps/web/static/models/gpt2/model.onnx")
DEFAULT_ENV_FILE = Path("apps/web/.env.production")
TOOL_VERSION = f"transformer-model-release {VERSION}"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class PathType(click.ParamType[Path]):
    """A path; an empty one is a variable that was not set, and does not mean this folder."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Text -> path."""
        if value == "":
            self.fail("a path must not be empty.", param, ctx)
        return Path(value)


PATH = PathType()


def print_progress(message: str) -> None:
    """One line on stderr; what a server or a file name put into it cannot start another. Columns stay aligned."""
    click.echo("".join(c if c.isprintable() else " " for c in message), err=True)


def options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def with_version(command: click.Command) -> click.Command:
    """A command that also tells the tool's version: by `--version`, unless it has such an option already."""
    if any("--version" in parameter.opts for parameter in command.params):
        return command
    option = click.version_option(
        VERSION,
        message=TOOL_VERSION,
        help="Print the tool's version and exit.",
        allow_from_autoenv=False,  # MODEL_RELEASE_VERSION is a release's.
    )
    return option(command)


source_options = options(
    click.option("--model", metavar="ID", help="A key of contract/models.json, or a Hugging Face id. [default: gpt2]"),
    click.option(
        "--model-path",
        type=PATH,
        metavar="DIR",
        help="A folder with config.json and model.safetensors or pytorch_model.bin.",
    ),
    click.option("--demo", is_flag=True, help="The small GPT-2 that comes with this repository."),
    click.option("--revision", metavar="SHA", help="Commit of the model's repository. [default: the pinned one]"),
)


selection_options = options(
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


build_options = options(
    click.option(
        "--precision",
        default="fp16,int8-dynamic",
        show_default=True,
        metavar="NAMES",
        help="Precisions to release besides fp32.",
    ),
    click.option(
        "--app-precision", metavar="NAME", help="The precision the web app gets. [default: the first of --precision]"
    ),
    click.option(
        "--delivery",
        type=click.Choice(["auto", "git", "release"]),
        default="auto",
        show_default=True,
        help="How the app gets its model; auto decides by size.",
    ),
    click.option(
        "--size-threshold",
        type=float,
        default=50,
        show_default=True,
        metavar="MB",
        help="Largest model for the app's tree, in MB (10^6 bytes).",
    ),
)


tree_options = options(
    click.option("--env-file", type=PATH, default=DEFAULT_ENV_FILE, show_default=True, help="The web app's env file."),
    click.option(
        "--static-dir",
        type=PATH,
        metavar="DIR",
        help="What the app serves at its base. [default: static beside the env file]",
    ),
)


app_options = options(
    click.option(
        "--env-repo",
        metavar="OWNER/NAME",
        help="Commit to this repository of the web app, on GitHub; paths are then those in it.",
    ),
    click.option("--env-branch", metavar="NAME", help="Its branch. [default: the default branch]"),
    click.option("--deploy-workflow", metavar="FILE", help="Its workflow to start after a change, e.g. deploy.yml."),
    click.option("--create-env-file", is_flag=True, help="Make the env file if it is missing."),
)


mirror_options = options(
    click.option(
        "--mirror",
        metavar="PLACE",
        help="Mirror for browsers: hub:ORG/REPO or s3://BUCKET/PREFIX; the app's URL is then the mirror's.",
    ),
    click.option("--mirror-endpoint", metavar="URL", help="Another S3 than AWS, e.g. of Aliyun OSS or MinIO."),
    click.option("--mirror-public-url", metavar="URL", help="Where the bucket is served, if by a CDN or a domain."),
    click.option(
        "--origin",
        default="https://app.example",
        show_default=True,
        metavar="URL",
        help="Where the web app is served; the mirror must let its pages read.",
    ),
)


def source_request(model: str | None, model_path: Path | None, demo: bool, revision: str | None) -> "SourceRequest":
    """The weights that the source options name."""
    from model_release.model.weights.source import SourceRequest

    return SourceRequest(model=model, folder=model_path, demo=demo, revision=revision)


def build_request(
    tag: "ReleaseTag",
    source: "SourceRequest",
    selection: "SelectionRequest",
    *,
    precision: str,
    app_precision: str | None,
    delivery: "Delivery",
    size_threshold: float,
    companion: bool = False,
) -> "BuildRequest":
    """What the build options ask for."""
    from model_release.contract.activations import parse_precisions
    from model_release.release.request import BuildRequest

    if not 0 <= size_threshold <= 1e9:
        raise UsageError(f"--size-threshold must be a size in MB, got {size_threshold:g}. The default is 50.")
    precisions = parse_precisions(precision)
    return BuildRequest(
        tag=tag,
        source=source,
        selection=selection,
        precisions=precisions,
        app_precision=precisions[0] if app_precision is None else app_precision,
        delivery=delivery,
        threshold_bytes=round(size_threshold * 1e6),
        companion=companion,
    )
