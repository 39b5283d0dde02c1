"""What commands tell GitHub Actions: step outputs, job summaries, annotations; and what they learn from it.

Elsewhere they tell it nothing.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from model_release.base.text import discreet, quoted

_MAX_SUMMARY_BYTES = 1 << 20
"""The longest summary of a step that is shown."""


def in_workflow() -> bool:
    """Whether GitHub Actions runs us."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def started_by_hand() -> bool:
    """Whether a person asked for this very run: at a command line, or with *Run workflow*."""
    return not in_workflow() or os.environ.get("GITHUB_EVENT_NAME") == "workflow_dispatch"


def annotate(kind: str, title: str, message: str) -> None:
    """A line on the run's page."""
    if in_workflow():
        click.echo(annotation(kind, title, discreet(message)))


def add_outputs(values: Mapping[str, str]) -> None:
    """Outputs of the step."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        _tell("GITHUB_OUTPUT", path, outputs(values))


def add_summary(markdown: str) -> None:
    """A part of the job's summary."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        _tell("GITHUB_STEP_SUMMARY", path, summary(markdown))


def _tell(variable: str, path: str, text: str) -> None:
    """Adds to a file of the runner; what could not be told stops nothing: by then a release may be public."""
    try:
        append(Path(path), text)
    except OSError as failure:
        reason = f"{variable} must name a file to write, got {quoted(path)}: {failure.strerror}"
        click.echo(f"warning: {reason}. The runner is not told of this step.", err=True)


def pushed_tag() -> str | None:
    """The tag whose push started the run, if it was one."""
    return os.environ.get("GITHUB_REF_NAME") if os.environ.get("GITHUB_REF_TYPE") == "tag" else None


def started_branch() -> str:
    """The branch on which the run was started by hand or by a call; empty for a pushed tag, and elsewhere."""
    return os.environ.get("GITHUB_REF_NAME", "") if os.environ.get("GITHUB_REF_TYPE") == "branch" else ""


def annotation(kind: str, title: str, message: str) -> str:
    r"""A line that shows on the run's page; nothing in it can end the line or begin another command.

    >>> annotation("error", "release: a, b", "100% wrong\n::set-env::")
    '::error title=release%3A a%2C b::100%25 wrong%0A::set-env::'
    """
    return f"::{kind} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def outputs(values: Mapping[str, str]) -> str:
    r"""Step outputs, for the file that GITHUB_OUTPUT names.

    >>> outputs({"tag": "model-v1.0.0"})
    'tag=model-v1.0.0\n'

    Raises:
        ValueError: A value has more than one line: it could set another output.
    """
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"the output {name} must be one line")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def append(path: Path, text: str) -> None:
    """Adds to a file that the runner reads after the step.

    Raises:
        OSError: It cannot be written; a pipe that nobody reads is not waited for.
    """

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0), 0o666)

    with open(path, "a", encoding="utf-8", errors="backslashreplace", newline="\n", opener=at_once) as file:
        file.write(text)


def summary(markdown: str) -> str:
    r"""A job summary, cut to what is shown.

    >>> summary("# Done")
    '# Done\n\n'
    """
    return markdown.encode()[: _MAX_SUMMARY_BYTES - 2].decode(errors="ignore") + "\n\n"
