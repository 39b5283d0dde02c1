"""What each kind of activation costs, as JSON: `run_activations.py SCRIPTS WEIGHTS FOLDER THREADS [TOKENS PAIRS]…`.

One model is exported with logits only, then once for each kind that it has, of all layers. Each is run alternately
with the first and removed before the next is made.
"""

import json
import sys
from pathlib import Path

from onnx_sessions import feed_of, open_session, paired_ratios, read_plan

scripts, weights, folder, threads, *plan = sys.argv[1:]
sys.path.insert(0, scripts)

from model_release.contract.metadata import metadata_of  # noqa: E402
from model_release.contract.request import SelectionRequest  # noqa: E402
from model_release.model.onnx_files.facts import read_facts  # noqa: E402
from model_release.model.pipeline import export_model  # noqa: E402
from model_release.model.weights.source import SourceRequest  # noqa: E402

vocab = json.loads((Path(weights) / "config.json").read_text(encoding="utf-8"))["vocab_size"]
base_path, path = Path(folder) / "logits.onnx", Path(folder) / "model.onnx"


def export(to: Path, activations: str, *, all_layers: bool) -> None:
    """As `export.py` does."""
    request = SelectionRequest(activations=activations, all_layers=all_layers)
    export_model(SourceRequest(folder=Path(weights)), request, to)


export(path, "all", all_layers=True)
has = metadata_of(path.name, read_facts(path).props).selection.activations
export(base_path, "logits", all_layers=False)
base = open_session(base_path, int(threads))
longest = max(tokens for tokens, _ in read_plan(plan))
rows = []
for layers, kinds in [("last", "default"), *(("all", kind) for kind in (*has, "all"))]:
    export(path, kinds, all_layers=layers == "all")
    session = open_session(path, int(threads))
    returned = session.run(None, feed_of(session, longest, vocab))
    rows.append(
        {
            "kinds": kinds,
            "layers": layers,
            "added_bytes": path.stat().st_size - base_path.stat().st_size,
            "returned_bytes": sum(array.nbytes for array in returned),
            "ratios": paired_ratios(base, session, vocab, read_plan(plan)),
        }
    )
    del session, returned
    path.unlink()
print(json.dumps(rows))
