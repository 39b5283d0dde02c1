"""Next-token agreement with PyTorch, as JSON: `measure_quality.py SCRIPTS WEIGHTS WINDOWS [MODEL]…`.

Every model runs the same windows of the text that the embedded model was not trained on. Prints a list
of `mean_kl`, `top1` and `perplexity_ratio`, one for each model.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx_sessions import logits_name, open_session

scripts, weights_folder, windows, *models = sys.argv[1:]
sys.path.insert(0, scripts)

from model_release.contract.activations import load_contract  # noqa: E402
from model_release.contract.measures import agreement, mean_agreement  # noqa: E402
from model_release.contract.selection import Selection  # noqa: E402
from model_release.model.pipeline import text_ids  # noqa: E402
from model_release.model.verify.reference import Reference  # noqa: E402
from model_release.model.weights.folder import load_folder  # noqa: E402

TOKENS = 128

weights = load_folder(Path(weights_folder))
text = text_ids(weights)
starts = range(0, len(text) - TOKENS, TOKENS)
chosen = [np.array([text[start : start + TOKENS + 1]]) for start in starts[:: max(1, len(starts) // int(windows))]]

selection = Selection(layers=(0,), activations=(), logits="all")
outputs = load_contract().expected_outputs(weights.blueprint, selection)
reference = Reference(weights)
expected = [reference.run(window[:, :-1], outputs)["logits"] for window in chosen]

rows = []
for model in models:
    session = open_session(model, 2)
    whole = mean_agreement(
        agreement(session.run([logits_name(session)], {"input_ids": window[:, :-1]})[0], wanted, window[:, 1:])
        for window, wanted in zip(chosen, expected, strict=True)
    )
    rows.append({"mean_kl": whole.mean_kl, "top1": whole.top1, "perplexity_ratio": whole.perplexity_ratio})
print(json.dumps(rows))
