"""Seeded broken input, a group of inputs a test; `FUZZ_SECONDS` and `FUZZ_SEED` ask for more of it."""

import os
import shutil
import time
from pathlib import Path

import pytest

from fuzzing import GROUPS, run

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "14"))
CASES = {
    "config.json": 25,
    "safetensors": 25,
    "pickles": 25,
    "tokenizers": 20,
    "ONNX files": 25,
    "releases": 60,
    "env files": 30,
    "options": 60,
    "environment": 40,
    "servers": 15,
}
"""How many by default, as each takes its time."""


@pytest.mark.network
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", GROUPS)
def test_broken_input_ends_in_time_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    begun, count, failed = time.monotonic(), 0, []
    while count < CASES[name] or time.monotonic() - begun < SECONDS / len(GROUPS):
        seed = SEED * 1_000_000 + count
        place = tmp_path / "case"
        place.mkdir()
        monkeypatch.chdir(place)
        try:
            run(GROUPS[name], seed)
        except AssertionError as failure:
            failed.append(f"run(GROUPS[{name!r}], {seed}): {failure}")
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(place)
        count += 1
    print(f"{name}: {count} cases, {time.monotonic() - begun:.1f} s")
    assert not failed, f"{len(failed)} of {count}\n" + "\n\n".join(failed[:20])
