"""Broken clauses of the contract."""

from dataclasses import dataclass

from model_release.contract.activations import load_contract


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken clause: its ID, the tensor concerned (or empty) and one sentence."""

    clause: str
    tensor: str
    message: str

    def __str__(self) -> str:
        return f"{self.clause} {self.tensor + ': ' if self.tensor else ''}{self.message}"


def finding(clause: str, tensor: str, message: str) -> Finding:
    """A finding of a clause that the contract has.

    Raises:
        KeyError: It has none of this name.
    """
    if clause not in load_contract().clauses:
        raise KeyError(clause)
    return Finding(clause=clause, tensor=tensor, message=message)
