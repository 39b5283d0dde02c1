"""Options that reach a command as one object, and the variables that stand for them."""

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from model_release.base.errors import UsageError
from model_release.cli.options import BuildOptions, build_options, handed_over, options, source_options
from model_release.cli.places import AppOptions, HostOptions, app_options, host_options, tree_options
from model_release.contract.request import Budget, SelectionRequest
from model_release.contract.tag import parse_tag
from model_release.model.weights.source import SourceRequest


@dataclass(frozen=True, kw_only=True)
class Point:
    """Two options."""

    x: int
    y: int = 7


def run(command: click.Command, *arguments: str, **variables: str) -> Any:
    """What a command returns, with variables as workflows set them."""
    runner = CliRunner(env={f"MODEL_RELEASE_{name}": text for name, text in variables.items()})
    settings: dict[str, Any] = {"standalone_mode": False, "auto_envvar_prefix": "MODEL_RELEASE"}
    return runner.invoke(command, arguments, catch_exceptions=False, **settings).return_value


def test_an_object_takes_the_options_of_its_names_wherever_they_stand() -> None:
    @click.command()
    @click.option("--x", type=int)
    @handed_over("point", Point)
    @click.option("--other", default="o")
    @click.option("--y", type=int)
    def command(**values: object) -> object:
        return values

    assert [parameter.name for parameter in command.params] == ["x", "other", "y"]
    assert run(command, "--x", "1", "--y", "2") == {"point": Point(x=1, y=2), "other": "o"}


def test_an_option_that_a_command_lacks_is_left_to_its_default() -> None:
    @click.command()
    @options(click.option("--x", type=int), handed_over("point", Point))
    def command(*, point: Point) -> Point:
        return point

    assert run(command, "--x", "1") == Point(x=1, y=7)


def test_variables_reach_what_is_built() -> None:
    @click.command()
    @source_options
    @build_options
    def command(*, source: SourceRequest, build: BuildOptions) -> object:
        return build.request(parse_tag("model-v1.0.0"), source)

    request = run(
        command, LAYERS="0-3", PRECISION="int4,fp16", DEMO="true", SIZE_THRESHOLD="1.5", APP_PRECISION="", CONTEXT="64"
    )
    assert request.source == SourceRequest(demo=True, context=64)
    assert request.selection == SelectionRequest(layers="0-3")
    assert (request.precisions, request.app_precision, request.threshold_bytes) == (("int4", "fp16"), "int4", 1_500_000)


def test_a_size_to_fit_goes_with_the_precision_it_is_for() -> None:
    @click.command()
    @build_options
    def command(*, build: BuildOptions) -> object:
        return build.budget

    assert run(command) is run(command, FIT="") is None
    assert run(command, "--fit", "1.5", "--precision", "fp16,small") == Budget(size_bytes=1_500_000, is_asked=True)
    with pytest.raises(UsageError, match="--fit is for the precision small, got fp16, int4"):
        run(command, "--precision", "fp16,int4", FIT="40")
    for size in ("-1", "nan", "inf"):
        with pytest.raises(UsageError, match="--fit must be a size in MB"):
            run(command, "--fit", size, "--precision", "small")


def test_a_mirror_gives_the_model_an_address_and_the_tree_is_not_to_be_asked_for_too() -> None:
    @click.command()
    @build_options
    def command(*, build: BuildOptions) -> str:
        return build.for_mirror().delivery

    assert run(command) == run(command, "--delivery", "release") == "release"
    with pytest.raises(UsageError, match="gives the model an address of its own, got --delivery git"):
        run(command, "--delivery", "git")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [([], False), (["--env-repo", "o/r"], True), (["--env-branch", "x"], True), (["--create-env-file"], False)],
)
def test_the_app_is_in_a_repository_if_an_option_says_so(arguments: list[str], named: bool) -> None:
    @click.command()
    @tree_options
    @app_options
    @click.option("--no-env", is_flag=True)
    def command(*, app: AppOptions) -> bool:
        return app.names_repository

    assert run(command, *arguments) is named


def test_a_command_without_a_base_url_has_a_host_all_the_same() -> None:
    @click.command()
    @click.option("--host")
    @click.option("--repo")
    @host_options
    def command(*, host: HostOptions) -> HostOptions:
        return host

    assert run(command, "--host", "github") == HostOptions(host="github", repo=None, base_url="")


def test_what_cannot_be_meant_is_refused_before_the_command() -> None:
    @click.command()
    @source_options
    def command(*, source: SourceRequest) -> None:
        raise AssertionError(source)

    with pytest.raises(UsageError, match="exclude each other"):
        run(command, "--demo", "--model", "gpt2")
