"""The command line: options, help texts, exit codes. It translates; the packages below act.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from model_release.base.errors import ReleaseError
from model_release.base.text import discreet, one_line, shortened
from model_release.cli.actions import annotate
from model_release.cli.browse import browse
from model_release.cli.build import build
from model_release.cli.docs import docs
from model_release.cli.doctor import doctor
from model_release.cli.export import export
from model_release.cli.fetch import fetch
from model_release.cli.options import with_version
from model_release.cli.plan import plan
from model_release.cli.point import point
from model_release.cli.probe import probe
from model_release.cli.publish import publish
from model_release.cli.quantize import quantize
from model_release.cli.release import release
from model_release.cli.verify import verify
from model_release.cli.weights import weights

_INTERRUPTED = 130
_NO_MEMORY = (
    "this must fit into the memory that is free, and it ran out. "
    "Close other programs, or use a larger machine or a smaller model."
)
# Of PyTorch, the loader of libraries, and C++.
_WITHOUT_MEMORY = ("can't allocate memory", "failed to map segment", "std::bad_alloc")
_STOPPED = "interrupted. Nothing half-written is left behind; run it again."
_SIGNALLED = 128  # and the signal's number: 143 for SIGTERM


def run(command: click.Command) -> None:
    """Runs a command as a program: one sentence and the right exit code for every explained failure."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    try:
        status = command.main(
            obj=COMMANDS,
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
        _fail(_STOPPED, _INTERRUPTED)
    except (OSError, MemoryError, RuntimeError, SystemError, ImportError) as failure:
        for cause in _chain(failure):
            # Libraries in C make an ImportError of a signal that arrives while they are imported.
            if isinstance(cause, SystemExit):
                raise cause from None
            if isinstance(cause, KeyboardInterrupt):
                _fail(_STOPPED, _INTERRUPTED)
            if _lacks_memory(cause):
                _fail(_NO_MEMORY, 1)
        if not isinstance(failure, OSError):
            raise
        # Modules explain the files they write; this is what none foresaw, such as a full temporary folder.
        _fail(f"the system refused: {failure}. Free space or permissions and run it again.", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    """A failure, what it came from, and so on."""
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _lacks_memory(failure: BaseException) -> bool:
    """Whether memory has run out, in whatever words a library says so."""
    return isinstance(failure, MemoryError) or any(words in str(failure) for words in _WITHOUT_MEMORY)


def _fail(message: str, status: int) -> NoReturn:
    sentence = shortened(discreet(one_line(message)))  # It may quote whole options, paths and files.
    click.echo(f"error: {sentence}", err=True)
    annotate("error", Path(sys.argv[0]).name, sentence)
    sys.exit(status)


def _terminate(number: int, _frame: FrameType | None) -> None:
    """A signal to end unwinds the stack, so that temporary files are removed."""
    sys.exit(_SIGNALLED + number)


COMMANDS = tuple(
    map(
        with_version,
        (export, quantize, verify, browse, release, publish, point, fetch, probe, doctor, plan, weights, build, docs),
    )
)
"""Every command; scripts/README.md shows their help in this order."""
