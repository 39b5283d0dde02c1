"""Reads a file and writes as many bytes as another has, to disk: `copy_bytes.py SOURCE LIKE TARGET`.

The least that making LIKE from SOURCE can cost.
"""

import os
import sys
from pathlib import Path

CHUNK_BYTES = 2**20

source, like, target = map(Path, sys.argv[1:])
left_bytes = like.stat().st_size
with source.open("rb") as reader, target.open("wb") as writer:
    while chunk := reader.read(CHUNK_BYTES):
        left_bytes -= writer.write(chunk[:left_bytes])
    writer.flush()
    os.fsync(writer.fileno())
