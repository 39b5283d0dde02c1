"""Writes a release folder with one model of random bytes. Arguments: tests/, scripts/, folder, tag, MB."""

import os
import sys
from pathlib import Path

sys.path[:0] = sys.argv[1:3]

from dists import make_dist  # noqa: E402

folder, tag, size_mb = sys.argv[3:]
make_dist(Path(folder), tag, {"model.onnx": os.urandom(int(size_mb) * 10**6)})
