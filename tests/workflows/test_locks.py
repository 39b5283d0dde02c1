"""What a workflow's job installs: every package by its hash, in step with the requirements that people install."""

import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from acting import ROOT, load

LOCKS = ROOT / "scripts" / "locks"
SETS = ("light", "mirror", "full")
Pins = dict[str, str]


def pins(path: Path) -> Pins:
    """Name -> version of what a file pins."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


REQUIRED = {**pins(ROOT / "requirements.txt"), "boto3": pins(ROOT / "tests" / "requirements.txt")["boto3"]}
"""What people install; a job takes torch from its CPU index, whose version has a local part."""
REQUIRED["torch"] += "+cpu"


def named(name: str) -> set[str]:
    """The libraries that a set is made for."""
    lines = [line for line in (LOCKS / f"{name}.in").read_text().splitlines() if line[:1] not in ("#", "")]
    names = {canonicalize_name(line) for line in lines if not line.startswith("-r ")}
    return names.union(
        *(named(line.removeprefix("-r ").removesuffix(".in")) for line in lines if line.startswith("-r "))
    )


@pytest.mark.parametrize("name", SETS)
def test_a_lock_has_every_required_library_in_the_required_version(name: str) -> None:
    locked = pins(LOCKS / f"{name}.txt")
    wanted = pins(ROOT / "requirements.txt").keys() if name == "full" else named(name)
    assert {library: locked.get(library) for library in wanted} == {library: REQUIRED[library] for library in wanted}
    beside = locked.keys() & REQUIRED.keys()
    assert {library: locked[library] for library in beside} == {library: REQUIRED[library] for library in beside}


@pytest.mark.parametrize("name", SETS)
def test_a_lock_is_versions_and_hashes_and_says_nothing_of_where_they_come_from(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())[1:]
    entry = re.compile(r"[\w.-]+==[\w.+!]+(?: \\\n    --hash=sha256:[0-9a-f]{64})+")
    assert [each for each in entries if not entry.fullmatch(each)] == []
    assert len(entries) == len(pins(LOCKS / f"{name}.txt"))


def test_the_sets_agree() -> None:
    """What one job resolves, the others have too: they handle the same release."""
    versions: dict[str, set[str]] = {}
    for name in SETS:
        for library, version in pins(LOCKS / f"{name}.txt").items():
            versions.setdefault(library, set()).add(version)
    assert {library: found for library, found in versions.items() if len(found) > 1} == {}


def test_every_job_of_a_release_installs_a_lock_and_nothing_else() -> None:
    for name in ("release-model.yml", "warm-weights.yml"):
        for job in load(ROOT / ".github" / "workflows" / name)["jobs"].values():
            for step in job["steps"]:
                assert "pip install" not in step.get("run", "")
                if step.get("uses") == "./.github/actions/setup":
                    wanted = step["with"]["requirements"]
                    chosen = re.findall(r"'(\w+)'", wanted) or [wanted]
                    assert set(chosen) <= set(SETS), wanted
