"""Creates a session and runs it, as JSON: `run_session.py MODEL THREADS VOCAB [TOKENS RUNS]…`.

Prints how long creation took, the median run of each length, and some logits, by which files that
should compute the same are compared.
"""

import json
import sys
import time
from statistics import median

import numpy as np
import onnxruntime

_SAMPLES = 64  # Logits of the last position that are printed.
_WARM_UP = 2

path, threads, vocab, *plan = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 4
start = time.perf_counter()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
create_s = time.perf_counter() - start

random = np.random.default_rng(0)
run_ms: dict[str, float] = {}
logits: list[float] = []
for tokens, runs in zip(map(int, plan[::2]), map(int, plan[1::2]), strict=True):
    ids = random.integers(0, int(vocab), (1, tokens), dtype=np.int64)
    every_input = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(tokens, dtype=np.int64)[None, :],
    }
    feed = {entry.name: every_input[entry.name] for entry in session.get_inputs()}
    times_ms = []
    for _ in range(_WARM_UP + runs):
        start = time.perf_counter()
        outputs = session.run(None, feed)
        times_ms.append((time.perf_counter() - start) * 1e3)
    run_ms[str(tokens)] = median(times_ms[_WARM_UP:])
    last = outputs[[output.name for output in session.get_outputs()].index("logits")][0, -1]  # [vocab]
    logits += np.asarray(last, dtype=np.float64)[:: max(1, int(vocab) // _SAMPLES)].tolist()
print(json.dumps({"create_s": create_s, "run_ms": run_ms, "logits": logits}))
