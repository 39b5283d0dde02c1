"""Runs two models alternately in one process, as JSON: `run_pair.py BASE OTHER THREADS VOCAB [TOKENS PAIRS]…`.

Prints the median of `OTHER` ÷ `BASE` for each length.
"""

import json
import sys

from onnx_sessions import open_session, paired_ratios, read_plan

base, other, threads, vocab, *plan = sys.argv[1:]
first, second = (open_session(path, int(threads)) for path in (base, other))
print(json.dumps(paired_ratios(first, second, int(vocab), read_plan(plan))))
