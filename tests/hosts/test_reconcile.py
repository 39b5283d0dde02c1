"""Reconciling: from any state of a release to the wanted one, and no further."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from model_release.contract.manifest import FileEntry
from model_release.hosts.reconcile import ReleaseState, RemoteFile, plan_release

NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTENTS = st.binary(max_size=2)


def entry(name: str, content: bytes) -> FileEntry:
    return FileEntry(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def remote(name: str, content: bytes | None) -> RemoteFile:
    """None is an upload that did not finish."""
    if content is None:
        return RemoteFile(name=name, size_bytes=1, sha256="")
    return RemoteFile(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@settings(derandomize=True)
@given(
    st.dictionaries(NAMES, CONTENTS),
    st.none() | st.dictionaries(NAMES, st.none() | CONTENTS),
    st.booleans(),
    st.booleans(),
)
def test_applying_a_plan_reaches_the_wanted_state_and_a_second_plan_is_empty(
    wanted: dict[str, bytes], there: dict[str, bytes | None] | None, published: bool, replace: bool
) -> None:
    entries = [entry(name, content) for name, content in wanted.items()]
    state = (
        None
        if there is None
        else ReleaseState(published=published, files=tuple(remote(*item) for item in there.items()))
    )
    actions = plan_release(entries, state, replace=replace)
    if any(action.kind == "refuse" for action in actions):
        assert published
        assert not replace
        assert there != wanted
        return
    after = dict(there or {})
    for action in actions:
        if action.kind == "delete":
            del after[action.name]
        elif action.kind != "keep":
            after[action.name] = wanted[action.name]
    assert after == wanted
    again = plan_release(
        entries, ReleaseState(published=published, files=tuple(remote(*item) for item in after.items()))
    )
    assert {action.kind for action in again} <= {"keep"}
