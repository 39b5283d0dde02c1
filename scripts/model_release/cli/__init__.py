"""The command line: options, help texts, exit codes. It translates; `steps.py` and `chain.py` act.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from model_release.base.errors import ReleaseError, one_line
from model_release.cli.actions import annotate
from model_release.cli.app import browse, fetch, probe
from model_release.cli.model import export, quantize, verify
from model_release.cli.releasing import publish, release
from model_release.cli.workflow import build, plan, weights

_INTERRUPTED = 130
_SIGNALLED = 128  # and the signal's number: 143 for SIGTERM


def run(command: click.Command) -> None:
    """Runs a command as a program: one sentence and the right exit code for every explained failure."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    try:
        status = command.main(
            standalone_mode=False,
            prog_name=f"python scripts/{command.name}.py",
            auto_envvar_prefix="MODEL_RELEASE",  # How workflows pass their inputs; an empty one is not given.
        )
    except ReleaseError as failure:
        _fail(str(failure), failure.exit_code)
    except click.UsageError as failure:
        _fail(f"{failure.format_message()} See python scripts/{command.name}.py --help.", 2)
    except click.ClickException as failure:
        _fail(failure.format_message(), failure.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted. Nothing half-written is left behind; run it again.", _INTERRUPTED)
    except OSError as failure:
        # Rooms explain the files they write; this is what no room foresaw, such as a full temporary folder.
        _fail(f"the system refused: {failure}. Free space or permissions and run it again.", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    click.echo(f"error: {one_line(message)}", err=True)
    annotate("error", Path(sys.argv[0]).name, one_line(message))
    sys.exit(status)


def _terminate(number: int, _frame: FrameType | None) -> None:
    """A signal to end unwinds the stack, so that temporary files are removed."""
    sys.exit(_SIGNALLED + number)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if a document is not up to date.")
def docs(*, check: bool) -> None:
    """Write what is generated: the contract's tables and types, and the README's example and help."""
    from model_release.base.errors import ManifestError
    from model_release.base.files import write_bytes
    from model_release.cli.docs import documents

    for path, text in documents(COMMANDS).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise ManifestError(
                f"{path.name} must hold what its sources say. Run python scripts/docs.py and commit the result."
            )
        write_bytes(path, text.encode(), error=ManifestError)
        click.echo(f"{path.name}: written")


COMMANDS = (export, quantize, verify, browse, release, publish, fetch, probe, plan, weights, build, docs)
"""Every command; the README shows their help in this order."""

__all__ = [
    "COMMANDS",
    "browse",
    "build",
    "docs",
    "export",
    "fetch",
    "plan",
    "probe",
    "publish",
    "quantize",
    "release",
    "run",
    "verify",
    "weights",
]
