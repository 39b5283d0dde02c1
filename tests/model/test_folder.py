"""A folder of weights: the same numbers as transformers from every layout, one sentence for what is broken."""

import hashlib
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from builders import EMBEDDING, Format, gpt2_config, gpt2_folder, gpt2_state
from commands import traced_once
from gpt2_weights import assert_equals_transformers, with_weights
from model_release.base.errors import WeightsError
from model_release.contract.request import SelectionRequest
from model_release.model.pipeline import export_model
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import DEMO_FOLDER, SourceRequest, load_weights
from model_release.model.weights.tokenizer import load_tokenizer

# Layouts


@pytest.mark.parametrize("format", ["safetensors", "sharded", "bin", "legacy-bin"])
@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "bare"])
@pytest.mark.parametrize("buffers", [True, False], ids=["buffers", "no-buffers"])
def test_every_layout_reads_as_transformers_reads_it(tmp_path: Path, format: Any, prefix: bool, buffers: bool) -> None:
    assert_equals_transformers(load_folder(gpt2_folder(tmp_path, format=format, prefix=prefix, buffers=buffers)))


@pytest.mark.parametrize("format", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_are_cast_to_float32_as_transformers_casts_them(
    tmp_path: Path, format: Any, dtype: str
) -> None:
    assert_equals_transformers(load_folder(gpt2_folder(tmp_path, format=format, dtype=dtype)))


def test_safetensors_come_before_a_pickle(tmp_path: Path) -> None:
    gpt2_folder(tmp_path, format="bin", seed=1)
    gpt2_folder(tmp_path, format="sharded", seed=2)
    assert len(load_folder(tmp_path).files) == 2
    gpt2_folder(tmp_path, format="safetensors", seed=3)
    assert [file.name for file in load_folder(tmp_path).files] == ["model.safetensors"]


def test_only_the_named_files_are_looked_at(tmp_path: Path) -> None:
    gpt2_folder(tmp_path, format="bin")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("put here by somebody else")
    weights = load_folder(tmp_path, files={"config.json", "pytorch_model.bin"})
    assert [file.name for file in weights.files] == ["pytorch_model.bin"]
    assert weights.tokenizer_files == ()


def test_shards_of_a_pickle_are_read(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    folder = with_weights(tmp_path, state)
    (folder / "model.safetensors").unlink()
    shards = {name: f"pytorch_model-0000{number % 2 + 1}-of-00002.bin" for number, name in enumerate(state)}
    for shard in set(shards.values()):
        torch.save({name: state[name] for name in state if shards[name] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    weights = load_folder(folder)
    assert [file.name for file in weights.files] == sorted(set(shards.values()))
    assert_equals_transformers(weights)
    shards["transformer.wte.weight"] = "model.safetensors"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(WeightsError, match=r"must name shards as plain \.bin file names, got 'model\.safetensors'"):
        load_folder(folder)


# What is recorded


def test_the_weights_know_their_source_but_no_path(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    weights = load_folder(folder)
    assert (weights.source, weights.revision) == ("local", "")
    content = (folder / "model.safetensors").read_bytes()
    assert weights.sha256 == hashlib.sha256(content).hexdigest() == weights.files[0].sha256
    assert weights.files[0].size_bytes == len(content)


def test_the_sha256_of_shards_covers_their_names_and_hashes_in_order(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path, format="sharded")
    lines = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.glob("*.safetensors"))
    )
    assert load_folder(folder).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_tokenizer_files_that_are_there_are_listed(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    for name in ("merges.txt", "tokenizer.json", "README.md"):
        (folder / name).write_text("")
    assert load_folder(folder).tokenizer_files == ("tokenizer.json", "merges.txt")


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_never_more_than_one_tensor_is_in_memory(tmp_path: Path, format: Any) -> None:
    folder = gpt2_folder(tmp_path, layers=6, hidden=128, format=format, dtype="float16")
    load_folder(folder).tensor(EMBEDDING)  # Imports and caches are no part of the measurement.
    tracemalloc.start()
    weights = load_folder(folder)
    assert weights.sha256  # Hashed beside the rest, in parts of their own.
    loaded_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for name in weights.blueprint.parameters:
        weights.tensor(name)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest_bytes = 128 * 4 * 128 * 4
    assert loaded_bytes < 400_000
    assert peak_bytes < 2 * largest_bytes + 400_000  # The float16 one, its float32 copy, and names.
    assert peak_bytes < weights.blueprint.parameter_count * 4 / 4


# Broken folders, configs and indexes


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"folder must exist, got .*nowhere"):
        load_folder(tmp_path / "nowhere")


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"must hold config\.json, got none"):
        load_folder(tmp_path)


def test_a_folder_without_weights_lists_what_is_read(tmp_path: Path) -> None:
    gpt2_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(
        WeightsError, match=r"model\.safetensors, model\.safetensors\.index\.json .* pytorch_model\.bin"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "JSON object"),
        (b"{", "JSON object"),
        (b"\xff\xfe", "JSON object"),
        (b"[]", "got a list"),
        (b'"gpt2"', "got a str"),
        (b'{"a":' * 100_000, "nesting too deep"),
        (b'{"n_layer": ' + b"9" * 5000 + b"}", "JSON object"),
        (b'{"model_type": "gpt2"}' + b" " * (1 << 20), "at most 1048576 bytes"),
        (b'{"model_type": "gpt2", "n_embd": NaN}', "n_embd must be a whole number"),
        (b'{"model_type": "gpt2", "n_layer": 1e999}', "n_layer must be a whole number"),
        (b'{"model_type": "gpt2", "n_layer": -Infinity}', "n_layer must be a whole number"),
        (b'{"model_type": "gpt2", "vocab_size": 1e3}', "vocab_size must be a whole number"),
        (b'{"model_type": "bert"}', "must be one of: gpt2"),
    ],
    ids=range(13),
)
def test_a_broken_config_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    folder = gpt2_folder(tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=reason) as raised:
        load_folder(folder)
    assert raised.value.exit_code == 5
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "", "a/b.safetensors", "b.safetensors\0", 7, None]
)
def test_a_shard_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: Any) -> None:
    folder = gpt2_folder(tmp_path, format="sharded")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    with pytest.raises(WeightsError, match="must name shards as plain"):
        load_folder(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    folder = gpt2_folder(tmp_path, format="sharded")
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match=r"index\.json must"):
        load_folder(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path, format="sharded")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"got no model-00002-of-00002\.safetensors"):
        load_folder(folder)


def test_adapters_alone_are_to_be_merged_first(tmp_path: Path) -> None:
    save_file(
        {"base_model.model.h.0.attn.c_attn.lora_A.weight": torch.ones(2, 2)}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(WeightsError, match=r"adapters of PEFT alone\. Merge them .*merge_and_unload"):
        load_folder(tmp_path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 497774208\n"


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("safetensors", "config.json"),
        ("safetensors", "model.safetensors"),
        ("sharded", "model.safetensors.index.json"),
        ("sharded", "model-00002-of-00002.safetensors"),
        ("bin", "pytorch_model.bin"),
    ],
)
def test_a_pointer_of_git_lfs_is_named_with_the_way_out(tmp_path: Path, format: Format, name: str) -> None:
    folder = gpt2_folder(tmp_path, format=format)
    (folder / name).write_text(POINTER)
    with pytest.raises(WeightsError, match=rf"{name} must be .* a Git LFS pointer .*`git lfs pull`.*`lfs: true`"):
        load_folder(folder)


def test_a_pointer_in_place_of_a_tokenizer_is_named(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    (folder / "tokenizer.json").write_text(POINTER)
    with pytest.raises(WeightsError, match=r"tokenizer\.json must be readable, got: a Git LFS pointer"):
        load_tokenizer(load_folder(folder))


@pytest.mark.parametrize("format", ["safetensors", "sharded"])
def test_a_byte_order_mark_before_json_is_no_part_of_it(tmp_path: Path, format: Format) -> None:
    folder = gpt2_folder(tmp_path, format=format)
    for path in folder.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_folder(folder).blueprint.vocab == 31


# Whatever the bytes are


def read_everything(folder: Path) -> None:
    weights = load_folder(folder)
    for name in weights.blueprint.parameters:
        weights.tensor(name)


@pytest.mark.parametrize("format", ["safetensors", "bin", "legacy-bin"])
def test_truncated_and_corrupt_weights_are_one_clear_error_or_readable(tmp_path: Path, format: Any) -> None:
    folder = gpt2_folder(tmp_path, layers=1, hidden=2, heads=1, vocab=3, positions=2, format=format)
    path = folder / ("model.safetensors" if format == "safetensors" else "pytorch_model.bin")
    whole = path.read_bytes()
    chance = random.Random(0)
    lengths = {0, 1, 3, 7, 8, 9, len(whole) // 2, len(whole) - 1} | {chance.randrange(len(whole)) for _ in range(30)}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"^\S+ must be "):
            load_folder(folder)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3])):
            damaged[chance.randrange(min(len(whole), 4000))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_everything(folder)
        except WeightsError:
            refused += 1
    assert refused > 30


@pytest.mark.slow
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_number_that_is_not_finite_is_found_at_export_with_its_tensor(
    tmp_path: Path, value: str, precision: str
) -> None:
    state = gpt2_state(gpt2_config())
    state["transformer.h.1.mlp.c_fc.weight"][3, 5] = float(value)
    folder = with_weights(tmp_path / "model", state)
    request = SelectionRequest(layers="0")
    with (
        traced_once(),
        pytest.raises(WeightsError, match=r"transformer\.h\.1\.mlp\.c_fc\.weight must hold finite numbers"),
    ):
        export_model(SourceRequest(folder=folder), request, tmp_path / "out/model.onnx", precision=precision)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "name", "source", "revision"),
    [
        (f"models--org--tiny/snapshots/{'0a' * 20}", "tiny", "org/tiny", "0a" * 20),
        (f"models--tiny/snapshots/{'0a' * 20}", "tiny", "tiny", "0a" * 20),
        ("models--org--tiny/snapshots/main", "main", "local", ""),
        (f"other/snapshots/{'0a' * 20}", "0a" * 20, "local", ""),
        (f"models--org--tiny/{'0a' * 20}", "0a" * 20, "local", ""),
        (f"datasets--org--tiny/snapshots/{'0a' * 20}", "0a" * 20, "local", ""),
        ("tiny", "tiny", "local", ""),
    ],
)
def test_a_folder_in_the_hubs_cache_is_named_by_the_caches_layout(
    tmp_path: Path, place: str, name: str, source: str, revision: str
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for path in DEMO_FOLDER.iterdir():
        (folder / path.name).symlink_to(path)
    request = SourceRequest(folder=folder)
    weights = load_weights(request)
    assert (request.name, weights.source, weights.revision) == (name, source, revision)
    (tmp_path / "link").symlink_to(folder)
    assert SourceRequest(folder=tmp_path / "link").name == name
