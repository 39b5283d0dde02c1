"""manifest.json: what is read can be written, byte for byte; what is no manifest is one sentence."""

from pathlib import Path

import pytest

from model_release.base.errors import ManifestError
from model_release.contract import manifest

GOLDEN = Path(__file__).with_name("manifest_v1.json").read_bytes()
"""A manifest of version 1 with everything one can hold; it was written by the first code that wrote them."""


def test_a_manifest_of_version_1_is_written_as_it_was_read() -> None:
    assert manifest.render(manifest.parse(GOLDEN)) == GOLDEN


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"manifest_version": 2}', b"[" * 100_000, b"\xff"])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json must"):
        manifest.parse(content)
