"""A whole release of small files, as a host would hold it: what is fetched, mirrored and verified in tests."""

import hashlib
import json
import random
from typing import Any

from model_release.base.retry import RetryPolicy

TAG = "model-v1.2.0"
MODEL = random.Random(0).randbytes(300_000)
SMALL = b"int8 " * 1000
CONTENTS = {
    "model.onnx": MODEL * 2,
    "model_fp16.onnx": MODEL,
    "model_int8_dynamic.onnx": SMALL,
    "tokenizer.json": b'{"version": "1.0"}',
    "vocab.json": b"{}",
    "merges.txt": b"#version: 0.2\n",
    "config.json": b'{"model_type": "gpt2"}',
    "activations.json": b"{}",
}
QUICK = RetryPolicy(attempts=3, request_timeout_s=0.5, total_timeout_s=10, base_wait_s=0.01)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


VERSION = f"1.2.0-{sha256(MODEL)[:8]}"


def document(contents: dict[str, bytes] = CONTENTS, **changes: Any) -> dict[str, Any]:
    """A manifest; `changes` replace its entries."""

    def variant(file: str, precision: str) -> dict[str, Any]:
        return {
            "file": file,
            "precision": precision,
            "stored": "x",
            "computed": "fp32",
            "size_bytes": len(contents[file]),
            "within_threshold": True,
        }

    files = [
        {"name": name, "size_bytes": len(content), "sha256": sha256(content)}
        for name, content in sorted(contents.items())
    ]
    weights = {"name": "model.safetensors", "size_bytes": 1, "sha256": sha256(b"w")}
    return {
        "manifest_version": 2,
        "tag": TAG,
        "version": "1.2.0",
        "name": "gpt2",
        "contract_version": "1.0.0",
        "model": {
            "source": "s",
            "revision": "r",
            "weights_sha256": sha256(b"w"),
            "weights": [weights],
            "parameters": 1,
            "shape": {},
        },
        "selection": {"layers": [0], "activations": ["logits"], "logits": "all", "opset": 20},
        "delivery": {
            "asked": "auto",
            "mode": "release",
            "file": "model_fp16.onnx",
            "precision": "fp16",
            "size_bytes": len(contents["model_fp16.onnx"]),
            "threshold_bytes": 1,
            "within_threshold": False,
        },
        "variants": [
            variant("model.onnx", "fp32"),
            variant("model_fp16.onnx", "fp16"),
            variant("model_int8_dynamic.onnx", "int8-dynamic"),
        ],
        "files": files,
        "descriptions": [],
    } | changes


def release(contents: dict[str, bytes] = CONTENTS, manifest: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """Every file of a release."""
    text = manifest if manifest is not None else json.dumps(document(contents, **changes)).encode()
    listed = {**contents, "manifest.json": text}
    return {**listed, "SHA256SUMS": "".join(f"{sha256(each)}  {name}\n" for name, each in listed.items()).encode()}
