"""What running a release in a browser showed, file by file and backend by backend."""

from dataclasses import dataclass

from model_release.base.errors import ContractError, NumericMismatchError
from model_release.browser.timings import Figures
from model_release.contract.clauses import Finding


@dataclass(frozen=True, kw_only=True)
class Trial(Figures):
    """One file on one backend: what it needed, and whether what it returned is right.

    Attributes:
        refused: Why the backend cannot run the file; empty if it does.
        findings: Clauses broken by what it returns.
        worst_cosine: The least of any kind of output; None if values are missing or not finite.
        worst_relative: The largest relative error of any, likewise.
    """

    file: str
    precision: str
    backend: str
    size_bytes: int
    refused: str = ""
    findings: tuple[Finding, ...] = ()
    worst_cosine: float | None = None
    worst_relative: float | None = None

    @property
    def verdict(self) -> str:
        """`good`, `cannot run` or `wrong`."""
        return "cannot run" if self.refused else "wrong" if self.findings else "good"


@dataclass(frozen=True, kw_only=True)
class Browsing:
    """A release in a browser.

    Attributes:
        browser: Its version.
        trials: File after file, each on every backend.
        findings: Clauses broken by the release itself, whatever runs it.
    """

    browser: str
    trials: tuple[Trial, ...]
    findings: tuple[Finding, ...] = ()

    def require(self) -> None:
        """Fails once, with the first of what is wrong.

        Raises:
            NumericMismatchError: A backend runs a file wrongly.
            ContractError: No backend can run a file, or a page reads other tokens.
        """
        wrong = [trial for trial in self.trials if trial.findings]
        if wrong:
            first = wrong[0]
            raise NumericMismatchError(
                f"a browser must return what the fp32 file returns, {len(wrong)} of {len(self.trials)} runs do not; "
                f"the first: {first.file} on {first.backend}: {first.findings[0]}. Do not release this file."
            )
        if self.findings:
            raise ContractError(f"a page must read texts as the model does: {self.findings[0]}. Correct the tokenizer.")
        for file in dict.fromkeys(trial.file for trial in self.trials):
            of_file = [trial for trial in self.trials if trial.file == file]
            if all(trial.refused for trial in of_file):
                raise ContractError(
                    f"RUN01: a browser must run {file}, no backend can: {of_file[0].refused}. Do not release this file."
                )
