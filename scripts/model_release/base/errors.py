"""Every failure this program can explain: a class, an exit code and a next step.

The message form is "X must be Y, got Z. Do W." in one line. `cli.main` prints it and exits with the
class's code; nothing below prints or exits. Anything that is not a `ReleaseError` is a defect and
keeps its traceback (exit code 1).
"""

from typing import ClassVar

from model_release.base.text import one_line


class ReleaseError(Exception):
    """A failure with a clear sentence for the person who ran the command.

    Attributes:
        exit_code: The process's exit code; the table is in the README.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UsageError(ReleaseError):
    """An option or a combination of options that cannot be meant."""

    exit_code = 2


class MissingToolError(UsageError):
    """A program or package that this machine lacks, and that only some commands need: npm, Chromium, Playwright."""


class ContractError(ReleaseError):
    """A model file that breaks a clause of the contract, or that is no model file of ours."""

    exit_code = 3


class NumericMismatchError(ReleaseError):
    """A model that runs, but whose numbers are not PyTorch's."""

    exit_code = 4


class WeightsError(ReleaseError):
    """Weights or a config that are missing, broken, refused or unreachable."""

    exit_code = 5


class ExportError(ReleaseError):
    """An export that could not be made or written."""

    exit_code = 5


class QuantizeError(ReleaseError):
    """A precision that could not be made or written."""

    exit_code = 6


class ManifestError(ReleaseError):
    """A manifest, a contract file or a sha256 that is not what was promised."""

    exit_code = 7


class HostError(ReleaseError):
    """A release host that refused, is unreachable, or holds something else under this tag."""

    exit_code = 8


class EnvFileError(ReleaseError):
    """An env file that cannot be read, edited safely, or written."""

    exit_code = 9
