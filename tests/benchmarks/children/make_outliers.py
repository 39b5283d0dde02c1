"""The embedded model with outliers like real GPT-2's: `make_outliers.py SOURCE TARGET`.

In three channels the first position carries a thousand where all others carry about one.
"""

import shutil
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

source, target = map(Path, sys.argv[1:])
shutil.copytree(source, target)
weights = load_file(source / "model.safetensors")
weights["transformer.wpe.weight"][0, [3, 17, 29]] = 1000.0, -1000.0, 1000.0
save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
