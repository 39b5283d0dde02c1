"""What commands tell GitHub Actions; elsewhere they tell it nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from model_release.cli import github_actions


def annotate(kind: str, title: str, message: str) -> None:
    """A line on the run's page."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(github_actions.annotation(kind, title, message))


def add_outputs(values: Mapping[str, str]) -> None:
    """Outputs of the step."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        github_actions.append(Path(path), github_actions.outputs(values))


def add_summary(markdown: str) -> None:
    """A part of the job's summary."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        github_actions.append(Path(path), github_actions.summary(markdown))
