"""A token's cost with `--cache` and without, as JSON: `run_steps.py SCRIPTS WEIGHTS FOLDER PEERS_FILE THREADS ROUNDS`.

A model is exported with its default activations, once plain and once with `--cache`. A step of one token after 200
(or all but one that the model promises), a whole run of as many and one, and the same step of another exporter's file
(logits alone) are timed in turn.
"""

import json
import sys
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from onnx_sessions import feed_of, open_session, run_ms

scripts, weights, folder, peers_file, threads, rounds = sys.argv[1:]
sys.path.insert(0, scripts)

from model_release.contract.request import SelectionRequest  # noqa: E402
from model_release.model.pipeline import export_model  # noqa: E402
from model_release.model.weights.source import SourceRequest  # noqa: E402

PAST, PRESENT = "past_key_values", "present"


def step_feed(session: onnxruntime.InferenceSession, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The last of ids [1, tokens], and the keys and values that the session returns for those before."""
    every = {"attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None, :]}
    names = [entry.name for entry in session.get_inputs()]
    beside = {name: every[name] for name in names if name in every}
    empty = {
        entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
        for entry in session.get_inputs()
        if entry.name.startswith(PAST)
    }
    before = {"input_ids": ids[:, :-1], **{name: values[:, :-1] for name, values in beside.items()}, **empty}
    presents = [name.replace(PAST, PRESENT) for name in empty]
    past = dict(zip(empty, session.run(presents, before), strict=True))
    if "position_ids" in beside:
        beside["position_ids"] = beside["position_ids"][:, -1:]
    return {"input_ids": ids[:, -1:], **beside, **past}


config = json.loads((Path(weights) / "config.json").read_text(encoding="utf-8"))
tokens = min(201, config["n_positions"])
paths: list[str | Path] = []
for cache in (False, True):
    path = Path(folder) / f"{cache}.onnx"
    export_model(SourceRequest(folder=Path(weights)), SelectionRequest(cache=cache), path)
    paths.append(path)
plain, cached, peer = (open_session(path, int(threads)) for path in [*paths, peers_file])
whole = feed_of(plain, tokens, config["vocab_size"])
timed = [(plain, whole), *((session, step_feed(session, whole["input_ids"])) for session in (cached, peer))]
for session, feed in timed:
    run_ms(session, feed)
rows = []
for number in range(int(rounds)):
    order = (0, 1, 2) if number % 2 else (2, 1, 0)
    times = {place: run_ms(*timed[place]) for place in order}
    rows.append((times[0], times[1], times[2]))
print(
    json.dumps(
        {
            "before": tokens - 1,
            "step_ms": median(step for _, step, _ in rows),
            "whole_ms": median(run for run, _, _ in rows),
            "ratio": median(step / run for run, step, _ in rows),
            "peers_step_ms": median(other for _, _, other in rows),
            "ratio_to_peer": median(step / other for _, step, other in rows),
        }
    )
)
