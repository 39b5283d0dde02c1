"""Three groups of clauses: held, broken, and nothing to judge. The contract's JSON says which clauses there are."""

import importlib
from collections.abc import Iterator

import pytest

from model_release.base.text import markdown_table
from model_release.contract.activations import load_contract
from model_release.contract.clauses import (
    BROWSED,
    NEEDS,
    NOTHING_JUDGED,
    STEPPED,
    TOUCHED,
    VERIFIED,
    Finding,
    Judgement,
    Ruling,
    broken,
    check,
    judgement_document,
    render_groups,
)

BROKEN = Judgement(
    judged=frozenset({"FIN01", "PROB01"}), findings=(Finding(clause="FIN01", tensor="logits", message="is not finite"),)
)
HELD = Judgement(judged=frozenset({"RUN01", "FIN01"}))


def test_every_clause_of_the_contract_has_a_check_and_every_check_a_clause() -> None:
    for module in ("comparison_checks", "figure_checks", "file_checks", "output_checks"):  # Checks register themselves.
        importlib.import_module(f"model_release.contract.{module}")
    assert set(NEEDS) == set(load_contract().clauses)


def test_every_clause_belongs_to_a_verification_or_to_a_browser() -> None:
    assert set(VERIFIED + STEPPED + TOUCHED + BROWSED) == {clause.stage for clause in load_contract().clauses.values()}


@pytest.mark.parametrize(
    ("problems", "held", "found"),
    [([], (), ()), (["", ""], ("FIN01",), ()), (["", "is wrong"], (), ("FIN01 tensor: is wrong",))],
    ids=["nothing to judge", "all good", "one wrong"],
)
def test_a_check_holds_only_what_it_has_judged(
    problems: list[str], held: tuple[str, ...], found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NEEDS, "FIN01", NEEDS["FIN01"])  # The registry is afterwards what it was.

    @check("FIN01", needs="a tensor")
    def rule(problems: list[str]) -> Iterator[Ruling]:
        yield from (("tensor", problem) for problem in problems)

    judgement = rule(problems)
    assert (judgement.held, tuple(map(str, judgement.findings))) == (held, found)
    assert ("FIN01" in judgement.nothing_to_judge(["run"])) == (not problems)


@pytest.mark.parametrize("total", [HELD + BROKEN, BROKEN + HELD, BROKEN + HELD + BROKEN])
def test_a_clause_that_is_broken_once_does_not_hold(total: Judgement) -> None:
    assert total.held == ("RUN01", "PROB01"), "in the contract's order"
    assert (total.broken, set(total.tensors), len(total.findings)) == (("FIN01",), {"logits"}, 1)


@pytest.mark.parametrize("judgement", [NOTHING_JUDGED, HELD, BROKEN, HELD + BROKEN, broken("RUN01", "it does not run")])
def test_every_clause_of_a_stage_is_in_one_of_three_groups(judgement: Judgement) -> None:
    groups = [*judgement.held, *judgement.broken, *judgement.nothing_to_judge(VERIFIED)]
    assert sorted(groups) == sorted(
        clause.id for clause in load_contract().clauses.values() if clause.stage in VERIFIED
    )


def test_clauses_of_other_stages_appear_only_where_they_were_judged() -> None:
    assert set(HELD.nothing_to_judge(BROWSED)) == {"TOK01"}
    assert HELD.held == ("RUN01", "FIN01")


def test_people_read_what_holds_and_what_the_others_would_need() -> None:
    held, table = render_groups(HELD + BROKEN, ["run"], note=" (a note)")
    assert held == "2 clauses hold: RUN01 PROB01 (a note)"
    assert table.splitlines()[0].split("  ")[0] == "nothing to judge"
    assert f"PROB02            {NEEDS['PROB02']}" in table.splitlines()
    (everything,) = render_groups(HELD, [])
    assert everything == "2 clauses hold: RUN01 FIN01"
    assert render_groups(broken("RUN01", "") + Judgement(judged=frozenset({"FIN01"})), [])[0] == "1 clause holds: FIN01"


def test_clauses_with_the_same_need_share_a_row() -> None:
    _, table = render_groups(HELD, ["reference"], draw=markdown_table)
    assert f"| NUM01 REL01 | {NEEDS['NUM01']} |" in table.splitlines()


def test_programs_read_the_groups_too() -> None:
    assert judgement_document(HELD + BROKEN) == {
        "clauses": ["RUN01", "PROB01"],
        "broken": ["FIN01"],
        "findings": [{"clause": "FIN01", "tensor": "logits", "message": "is not finite"}],
    }
