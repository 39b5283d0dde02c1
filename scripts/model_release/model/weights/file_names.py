"""The files of a model's folder: what they are called, and which further ones an index names."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_release.base.errors import WeightsError
from model_release.base.files import read_bytes
from model_release.base.text import first_lines

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
READABLE = (SAFETENSORS, SAFETENSORS_INDEX, PICKLE, PICKLE_INDEX)
"""What weights may be called, in transformers' order of preference."""

ADAPTER = "adapter_config.json"
MERGE_FIRST = (
    'Merge them into their model first: python -c "from peft import AutoPeftModelForCausalLM as M; '
    "M.from_pretrained('ADAPTERS').merge_and_unload().save_pretrained('MERGED')\""
)

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, "vocab.json", "merges.txt", TOKENIZER_CONFIG, "special_tokens_map.json")
OLDER_TOKENIZER_FILES = ("vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "added_tokens.json")
"""What tokenizer.json is made of where there is none."""

_SHARD_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_INDEX_LIMIT_BYTES = 16 << 20


def tokenizer_names(present: Callable[[str], bool]) -> tuple[str, ...]:
    """The files of a tokenizer; those of an older kind count where there is no tokenizer.json."""
    older = () if present(TOKENIZER) else OLDER_TOKENIZER_FILES
    return tuple(name for name in (*TOKENIZER_FILES, *older) if present(name))


def shard_names(index: Path) -> list[str]:
    """The shards an index file names, sorted; each is a plain file name, never a path.

    Raises:
        WeightsError: The index is broken or names something else than files of its kind beside it.
    """
    suffix = ".bin" if index.name == PICKLE_INDEX else ".safetensors"
    weight_map = read_json(index, _INDEX_LIMIT_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} must map tensors to shards in weight_map, got none. Fetch the file again.")
    for name in weight_map.values():
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name) or not name.endswith(suffix):
            raise WeightsError(
                f"{index} must name shards as plain {suffix} file names, got {repr(name)[:80]}. "
                "Do not use this model: a path here would read files outside its folder."
            )
    return sorted(set(weight_map.values()))


def read_json(path: Path, limit_bytes: int) -> dict[str, Any]:
    """Parses a JSON object from a file that nobody vouches for.

    Raises:
        WeightsError: Unreadable, larger than `limit_bytes`, not UTF-8, not JSON, or not an object.
    """
    try:
        parsed = json.loads(read_bytes(path, limit_bytes=limit_bytes).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as failure:
        reason = "nesting too deep" if isinstance(failure, RecursionError) else first_lines(failure)
        raise WeightsError(f"{path} must be a JSON object, got: {reason}. Fetch the file again.") from failure
    if not isinstance(parsed, dict):
        raise WeightsError(f"{path} must be a JSON object, got a {type(parsed).__name__}. Fetch the file again.")
    return parsed
