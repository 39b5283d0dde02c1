"""Creates a session and runs it, as JSON: `run_session.py MODEL THREADS VOCAB [TOKENS RUNS]…`.

Prints how long creation took and how much memory it had at most, the median run of each length, and some logits, by
which files that should compute the same are compared.
"""

import json
import resource
import sys
import time
from statistics import median

from onnx_sessions import feed_of, logits_sample, open_session, read_plan, run_ms

path, threads, vocab, *plan = sys.argv[1:]
start = time.perf_counter()
session = open_session(path, int(threads), alone=True)
create_s = time.perf_counter() - start
peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

times_ms: dict[str, float] = {}
logits: list[float] = []
for tokens, runs in read_plan(plan):
    feed = feed_of(session, tokens, int(vocab))
    logits += logits_sample(session, feed)
    times_ms[str(tokens)] = median(run_ms(session, feed) for _ in range(runs))
print(json.dumps({"create_s": create_s, "create_peak_bytes": peak_bytes, "run_ms": times_ms, "logits": logits}))
