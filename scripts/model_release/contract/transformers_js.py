"""Where transformers.js looks for a release's files: in an app's folder, and in a repository of the Hub.

Names of model files say a `dtype` there; the names that it asks for unasked, and those that other precisions go by
here, stand for files of the release. Source: `utils/dtypes.js` of @huggingface/transformers 4.3.1.
"""

from model_release.contract.manifest import Manifest, is_data_file

ASKED_FOR = ("tokenizer_config.json", "generation_config.json")
"""What it asks for, whether there is any; an empty JSON object stands for one that the release lacks."""

CONFIG = "config.json"

_TOKENIZER_PREFIXES = ("tokenizer", "vocab.", "merges.")
_DEFAULTS = ("model.onnx", "model_quantized.onnx")
"""What is loaded without a `dtype`: outside browsers and on WebGPU the first, in WASM the second."""
_OTHER_NAMES = {"int4": "model_q4.onnx"}
"""Precisions whose `dtype` has another name."""


def delivered_names(document: Manifest, model: str) -> tuple[str, ...]:
    """The files that go with a model file: it, its data files, the tokenizer and the config."""
    names = sorted(document.names)
    data = [name for name in names if is_data_file(name, model)]
    return (model, *data, *(name for name in names if name.startswith(_TOKENIZER_PREFIXES)), CONFIG)


def path_of_model(name: str) -> str:
    """Where a model file, or a data file of it, lies."""
    return f"onnx/{name}"


def repository_paths(document: Manifest) -> dict[str, str]:
    """What a repository holds for `from_pretrained`: by path, the name of the released file that lies there.

    Without a `dtype` one gets the file that the app gets, `dtype: "fp16"`, `"int8"` and `"q4"` those precisions, and
    `model_file_name` with `dtype: "fp32"` any file by its own name.
    """
    paths = {}
    for variant in document.variants:
        for name in delivered_names(document, variant.file):
            is_model = name == variant.file or is_data_file(name, variant.file)
            paths[path_of_model(name) if is_model else name] = name
    stand_ins = dict.fromkeys(_DEFAULTS, document.delivery.file)
    stand_ins |= {
        _OTHER_NAMES[each.precision]: each.file for each in document.variants if each.precision in _OTHER_NAMES
    }
    for alias, name in stand_ins.items():
        if len(delivered_names(document, name)) == len(delivered_names(document, "")):  # Data files keep to one name.
            paths.setdefault(path_of_model(alias), name)
    return paths
