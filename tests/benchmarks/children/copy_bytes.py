"""Reads a file and writes as many bytes as another has, to disk: `copy_bytes.py SCRIPTS SOURCE LIKE TARGET`.

With the imports of `quantize.py`, the least that making LIKE from SOURCE can cost.
"""

import importlib
import os
import sys
from pathlib import Path

CHUNK_BYTES = 2**20

scripts, *paths = sys.argv[1:]
source, like, target = map(Path, paths)
sys.path.insert(0, scripts)
importlib.import_module("model_release.model.precision.quantize")
left_bytes = like.stat().st_size
with source.open("rb") as reader, target.open("wb") as writer:
    while chunk := reader.read(CHUNK_BYTES):
        left_bytes -= writer.write(chunk[:left_bytes])
    writer.flush()
    os.fsync(writer.fileno())
