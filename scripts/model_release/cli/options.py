"""Options that several commands share, each group handed over as one object, and how commands talk to people."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from model_release.base.errors import UsageError
from model_release.base.text import discreet
from model_release.base.version import TOOL, VERSION

if TYPE_CHECKING:
    from model_release.contract.request import Budget, SelectionRequest
    from model_release.contract.selection import Logits
    from model_release.contract.tag import ReleaseTag
    from model_release.model.weights.source import SourceRequest
    from model_release.release.request import BuildRequest, Delivery
    from model_release.release.workflow import WeightsJob

DEFAULT_OUTPUT = Path("apps/web/static/models/gpt2/model.onnx")
TOOL_VERSION = f"{TOOL} {VERSION}"

_Command = Callable[..., Any]
_Decorator = Callable[[_Command], _Command]


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
    click.echo("".join(c if c.isprintable() else " " for c in discreet(message)), err=True)


def options(*options: _Decorator) -> _Decorator:
    """Several options as one decorator."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def handed_over(name: str, make: Callable[..., object]) -> _Decorator:
    """Hands a command one object in place of the values it is made of.

    Args:
        name: The command's parameter.
        make: What makes the object; its parameters are named as the options, wherever these are declared. An option
            that the command does not have is left to its default.
    """
    names = inspect.signature(make).parameters

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def run(*arguments: Any, **values: Any) -> Any:  # noqa: ANN401 - a command's own
            parts = {part: values.pop(part) for part in names if part in values}
            return command(*arguments, **{name: make(**parts)}, **values)

        return run

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


def _source(
    model: str | None, model_path: Path | None, demo: bool, revision: str | None, context: int | None
) -> "SourceRequest":
    from model_release.model.weights.source import SourceRequest

    return SourceRequest(model=model, folder=model_path, demo=demo, revision=revision, context=context)


context_option = click.option(
    "--context",
    type=int,
    metavar="N",
    help="Longest sequence to promise and verify, in tokens. [default: the model's positions, at most 2048]",
)

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
    context_option,
    handed_over("source", _source),
)
"""Hands over `source`, a `SourceRequest`."""


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """The models of a run of the workflow, as they are asked for.

    Attributes:
        models: Names, separated by commas.
        revision: Of the only one.
        context: Tokens that each is to promise.
    """

    models: str | None
    revision: str | None
    context: int | None

    def jobs(self) -> "tuple[WeightsJob, ...]":
        """The build jobs; see `workflow.plan_models`."""
        from model_release.release.workflow import plan_models

        return plan_models(self.models, self.revision, self.context)


models_options = options(
    click.option(
        "--model",
        "models",
        metavar="LIST",
        help="Names of contract/models.json, Hugging Face ids or demo; the first keeps plain file names. "
        "[default: gpt2]",
    ),
    click.option("--revision", metavar="SHA", help="Commit of the only model's repository. [default: the pinned one]"),
    context_option,
    handed_over("asked", ModelsOptions),
)
"""Hands over `asked`, `ModelsOptions`."""


def _selection(
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    cache: bool,
    interventions: bool,
    opset: int,
) -> "SelectionRequest":
    from model_release.contract.request import SelectionRequest

    return SelectionRequest(
        layers=layers,
        all_layers=all_layers,
        activations=activations,
        logits=logits,
        cache=cache,
        interventions=interventions,
        opset=opset,
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
    click.option(
        "--cache",
        is_flag=True,
        help="Take keys and values of the tokens before, and return them, so that a step of generation runs one token.",
    ),
    click.option(
        "--interventions",
        is_flag=True,
        help="Take gains of heads and vectors to steer with: a run may switch heads off, or add to a layer's stream.",
    ),
    click.option(
        "--opset",
        type=int,
        default=20,
        show_default=True,
        help="ONNX opset, 18 to 25. Past 22, onnxruntime-web's default import may return nonsense on WebGPU.",
    ),
    handed_over("selection", _selection),
)
"""Hands over `selection`, a `SelectionRequest`."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What is made of weights; with a tag and the weights it is a request.

    Attributes:
        selection: What to see of the model.
        precisions: What is made besides `model.onnx`.
        app_precision: The precision the app gets.
        delivery: How it gets it.
        threshold_bytes: Largest model that may live in the app's tree.
        validation: A text to measure next-token agreement on.
        calibration: A text for the precisions that look at one.
        budget: How large `small` may be, if that is asked for.
    """

    selection: "SelectionRequest"
    precisions: tuple[str, ...]
    app_precision: str
    delivery: "Delivery"
    threshold_bytes: int
    validation: Path | None
    calibration: Path | None
    budget: "Budget | None"

    def for_mirror(self) -> Self:
        """The same for a model that has an address of its own."""
        from model_release.release.request import for_mirror

        return replace(self, delivery=for_mirror(self.delivery))

    def request(self, tag: "ReleaseTag", source: "SourceRequest", *, companion: bool = False) -> "BuildRequest":
        """The whole request."""
        from model_release.release.request import BuildRequest

        return BuildRequest(
            tag=tag,
            source=source,
            selection=self.selection,
            precisions=self.precisions,
            app_precision=self.app_precision,
            delivery=self.delivery,
            threshold_bytes=self.threshold_bytes,
            validation=self.validation,
            calibration=self.calibration,
            budget=self.budget,
            companion=companion,
        )


def _build(
    selection: "SelectionRequest",
    precision: str,
    app_precision: str | None,
    delivery: "Delivery",
    size_threshold: float,
    fit: float | None,
    validation: Path | None = None,
    calibration: Path | None = None,
) -> BuildOptions:
    from model_release.contract.activations import parse_precisions
    from model_release.contract.request import asked_budget

    if not 0 <= size_threshold <= 1e9:
        raise UsageError(f"--size-threshold must be a size in MB, got {size_threshold:g}. The default is 50.")
    precisions = parse_precisions(precision)
    return BuildOptions(
        selection=selection,
        precisions=precisions,
        app_precision=precisions[0] if app_precision is None else app_precision,
        delivery=delivery,
        threshold_bytes=round(size_threshold * 1e6),
        validation=validation,
        calibration=calibration,
        budget=asked_budget(fit, precisions),
    )


fit_option = click.option(
    "--fit",
    type=float,
    metavar="MB",
    help="Largest file for small, in MB (10^6 bytes): its weights take 2 to 8 bits, more where more depends on them on "
    "the calibration text.",
)


build_options = options(
    selection_options,
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
    fit_option,
    handed_over("build", _build),
)
"""Hands over `build`, `BuildOptions`; what to see of the model is among them."""


text_options = options(
    click.option(
        "--validation",
        type=PATH,
        metavar="FILE",
        help="Text to measure on what models say next. [default: English; random ids, if the tokenizer has no words]",
    ),
    click.option(
        "--calibration",
        type=PATH,
        metavar="FILE",
        help="Text that int8-static and small look at, best one like those to come. [default: as for --validation]",
    ),
)
"""Texts of one's own, as parts of `build`."""
