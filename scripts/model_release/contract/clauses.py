"""The clauses of the contract, judged: which hold, which are broken, and which had nothing to judge.

A check judges one clause. It is registered under the clause's ID, with what it needs to judge anything. The contract's
JSON is the source of the clauses; a test fails for a clause without a check.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, ParamSpec

from model_release.base.text import table
from model_release.contract.activations import load_contract

VERIFIED = ("structure", "run", "reference")
"""The stages whose clauses belong to the verification of a model file."""

STEPPED = ("steps",)
"""The stages whose clauses belong to the verification of a file made with `--cache`, besides; no other has steps."""

TOUCHED = ("touch",)
"""The same of a file made with `--interventions`."""

BROWSED = ("browser",)
"""The stages whose clauses belong to a browser's run of a release; it judges some of `VERIFIED` once more."""

P = ParamSpec("P")

Ruling = tuple[str, str]
"""One thing that a check has judged: the tensor (or empty), and what is wrong with it (or empty if nothing is)."""

NEEDS: dict[str, str] = {}
"""What each clause's check needs to judge anything, by the clause's ID. Checks register themselves; see `check`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken clause: its ID, the tensor concerned (or empty) and one sentence."""

    clause: str
    tensor: str
    message: str

    def __str__(self) -> str:
        return f"{self.clause} {self.tensor + ': ' if self.tensor else ''}{self.message}"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one or more checks have judged. Judgements add up.

    A clause is broken if there is a finding, held if it was judged without one, and otherwise had nothing to judge.

    Attributes:
        judged: IDs of the clauses for which there was something to judge.
        findings: What breaks some of them, each finding once.
    """

    judged: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()

    def __add__(self, other: "Judgement") -> "Judgement":
        return Judgement(
            judged=self.judged | other.judged, findings=tuple(dict.fromkeys((*self.findings, *other.findings)))
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """IDs of the broken clauses, in the order of their first findings."""
        return tuple(dict.fromkeys(finding.clause for finding in self.findings))

    @property
    def held(self) -> tuple[str, ...]:
        """IDs of the clauses that were judged and hold, in the contract's order."""
        return tuple(clause for clause in load_contract().clauses if clause in self.judged.difference(self.broken))

    def nothing_to_judge(self, stages: Collection[str]) -> dict[str, str]:
        """The clauses of some stages that were not judged, in the contract's order: ID -> what the check needs."""
        clauses = load_contract().clauses.values()
        return {
            clause.id: NEEDS[clause.id]
            for clause in clauses
            if clause.stage in stages and clause.id not in self.judged.union(self.broken)
        }

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors with a finding."""
        return frozenset(finding.tensor for finding in self.findings)


NOTHING_JUDGED = Judgement()
"""Where adding up begins."""


def broken(clause: str, message: str) -> Judgement:
    """A clause broken by what happened before a check could see a tensor."""
    return Judgement(judged=frozenset({clause}), findings=(Finding(clause=clause, tensor="", message=message),))


def check(clause: str, *, needs: str) -> Callable[[Callable[P, Iterator[Ruling]]], Callable[P, Judgement]]:
    """Makes a check of a function that yields one ruling for each thing it judges; none means nothing to judge.

    Args:
        clause: The ID of the clause that it judges.
        needs: What must be there for it to judge anything, in words for people.
    """

    def register(rule: Callable[P, Iterator[Ruling]]) -> Callable[P, Judgement]:
        NEEDS[clause] = needs

        @wraps(rule)
        def judge(*args: P.args, **kwargs: P.kwargs) -> Judgement:
            rulings = tuple(rule(*args, **kwargs))
            return Judgement(
                judged=frozenset({clause} if rulings else ()),
                findings=tuple(
                    Finding(clause=clause, tensor=tensor, message=problem) for tensor, problem in rulings if problem
                ),
            )

        return judge

    return register


def render_groups(
    judgement: Judgement, stages: Collection[str], *, note: str = "", draw: Callable[..., str] = table
) -> list[str]:
    """Which clauses hold and which had nothing to judge, in paragraphs; those that are broken have a table elsewhere.

    Args:
        judgement: What was judged.
        stages: The clauses of these appear even if they were not judged.
        note: What to say after the clauses that hold.
        draw: `base.text.table` or `markdown_table`.
    """
    count = len(judgement.held)
    parts = [f"{count} {'clause holds' if count == 1 else 'clauses hold'}: {' '.join(judgement.held)}{note}"]
    by_need: dict[str, list[str]] = {}
    for clause, need in judgement.nothing_to_judge(stages).items():
        by_need.setdefault(need, []).append(clause)
    if by_need:
        rows = [[" ".join(clauses), need] for need, clauses in by_need.items()]
        parts.append(draw(["nothing to judge", "it needs"], rows))
    return parts


def judgement_document(judgement: Judgement) -> dict[str, Any]:
    """A judgement as plain data; `clauses` are those that hold."""
    return {
        "clauses": list(judgement.held),
        "broken": list(judgement.broken),
        "findings": [asdict(finding) for finding in judgement.findings],
    }
