"""What a token costs with `--cache` and without, as JSON: `run_steps.py SCRIPTS WEIGHTS FOLDER THREADS PAIRS`.

A model is exported with its default activations, once plain and once with `--cache`. A step of one token after 200
(or all but one that the model promises) and a whole run of as many and one are timed alternately.
"""

import json
import sys
from pathlib import Path
from statistics import median

import numpy as np
from onnx_sessions import feed_of, open_session, run_ms

scripts, weights, folder, threads, pairs = sys.argv[1:]
sys.path.insert(0, scripts)

from model_release.contract.request import SelectionRequest  # noqa: E402
from model_release.model.pipeline import export_model  # noqa: E402
from model_release.model.weights.source import SourceRequest  # noqa: E402

config = json.loads((Path(weights) / "config.json").read_text(encoding="utf-8"))
before = min(200, config["n_positions"] - 1)
sessions = []
for cache in (False, True):
    path = Path(folder) / f"{cache}.onnx"
    export_model(SourceRequest(folder=Path(weights)), SelectionRequest(cache=cache), path)
    sessions.append(open_session(path, int(threads)))
plain, cached = sessions
whole = feed_of(plain, before + 1, config["vocab_size"])
past = {entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32) for entry in cached.get_inputs()[1:]}
names = [output.name for output in cached.get_outputs()]
prompt = dict(zip(names, cached.run(names, {"input_ids": whole["input_ids"][:, :before], **past}), strict=True))
past = {name: prompt[name.replace("past_key_values", "present")] for name in past}
step = {"input_ids": whole["input_ids"][:, before:], **past}
run_ms(plain, whole), run_ms(cached, step)
times_ms = []
for number in range(int(pairs)):
    runs = [(0, cached, step), (1, plain, whole)]
    timed = {place: run_ms(session, feed) for place, session, feed in (runs if number % 2 else runs[::-1])}
    times_ms.append((timed[0], timed[1]))
print(
    json.dumps(
        {
            "before": before,
            "step_ms": median(one for one, _ in times_ms),
            "whole_ms": median(other for _, other in times_ms),
            "ratio": median(one / other for one, other in times_ms),
        }
    )
)
