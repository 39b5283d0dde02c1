"""The real GPT-2, released: what it says after "The dog" is known. CI's nightly job builds it and names its folder."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model_release.contract import manifest

DIST = Path(os.environ.get("NIGHTLY_DIST", "/nonexistent"))

# transformers' own test of the revision that contract/models.json pins: tests/models/gpt2, greedy.
ANSWER = [464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198, 464, 3290]

pytestmark = pytest.mark.skipif(not DIST.is_dir(), reason="NIGHTLY_DIST names no folder with a build of gpt2")


def greedy(model: Path, prompt: list[int], length: int) -> list[int]:
    """Continues a prompt with the likeliest token until there are `length` of them."""
    session = onnxruntime.InferenceSession(model)
    ids = list(prompt)
    while len(ids) < length:
        (logits,) = session.run(["logits"], {"input_ids": np.array([ids])})  # [1, seq, vocab]
        ids.append(int(np.argmax(logits[0, -1])))
    return ids


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_released_gpt2_gives_the_known_answer(precision: str) -> None:
    document = manifest.parse((DIST / "manifest.json").read_bytes())
    variant = document.variant(precision)
    assert variant is not None
    assert greedy(DIST / variant.file, ANSWER[:2], len(ANSWER)) == ANSWER


def test_it_is_the_pinned_gpt2_with_the_layers_that_were_asked_for() -> None:
    document = manifest.parse((DIST / "manifest.json").read_bytes())
    assert document.model.revision == "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    assert document.model.parameters == 124_439_808
    assert document.selection.layers == (0, 5, 11)
