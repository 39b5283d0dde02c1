import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = "out/releases/model-v1.0.0"
session = onnxruntime.InferenceSession(f"{folder}/model_fp16.onnx")
ids = Tokenizer.from_file(f"{folder}/tokenizer.json").encode("And the LORD said").ids
arrays = session.run(None, {"input_ids": np.array([ids], dtype=np.int64)})
outputs = dict(zip((output.name for output in session.get_outputs()), arrays, strict=True))
print(outputs["logits"].shape, session.get_modelmeta().custom_metadata_map)  # Its keys: the contract, "Metadata".
