"""Reading weights: the same numbers as transformers, from every layout, and one sentence for what is broken."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from builders import EMBEDDING, HEAD, Format, gpt2_config, gpt2_folder, gpt2_state, save_weights, without_prefix
from commands import traced_once
from families import EVERY, family_folder
from model_release.base.errors import WeightsError
from model_release.contract.families import load_families
from model_release.contract.request import SelectionRequest
from model_release.model.export.survey import draw_blueprint
from model_release.model.pipeline import export_model
from model_release.model.weights.folder import Weights, load_folder
from model_release.model.weights.pickle_file import PickledFile
from model_release.model.weights.source import DEMO_FOLDER, SourceRequest, load_weights
from model_release.model.weights.tokenizer import load_tokenizer
from workroom import at_most


def with_weights(
    folder: Path, state: dict[str, torch.Tensor], *, format: Format = "safetensors", **config: Any
) -> Path:
    save_weights(folder, state, format=format)
    (folder / "config.json").write_text(json.dumps(gpt2_config(**config)))
    return folder


def assert_equals_transformers(weights: Weights) -> None:
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = GPT2LMHeadModel.from_pretrained(weights.folder, dtype=torch.float32, use_safetensors=None)
    expected = model.state_dict()
    for name, parameter in weights.blueprint.parameters.items():
        array = weights.tensor(name)
        assert array.dtype == np.float32
        assert array.shape == parameter.dims
        assert array.flags.c_contiguous
        assert np.array_equal(array, expected[name].numpy()), name
    shares_the_table = model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    assert weights.blueprint.tied == shares_the_table


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


def test_a_float64_too_large_for_float32_becomes_infinite_and_is_not_judged_here(tmp_path: Path) -> None:
    config = gpt2_config()
    state = {name: value.double() for name, value in gpt2_state(config).items()}
    state["transformer.ln_f.bias"][:2] = torch.tensor([1e300, float("nan")])
    array = load_folder(with_weights(tmp_path, state)).tensor("transformer.ln_f.bias")
    assert np.isposinf(array[0])
    assert np.isnan(array[1])


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


def test_an_unaligned_file_is_read_right(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    expected = load_folder(folder).tensor(EMBEDDING).copy()
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip() + b" " * 3
    header += b" " * (1 - len(header) % 2)  # An odd length puts every float32 off its boundary.
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    array = load_folder(folder).tensor(EMBEDDING)
    assert array.flags.aligned
    assert np.array_equal(array, expected)


# The head


def test_an_absent_head_is_the_embedding_table(tmp_path: Path) -> None:
    weights = load_folder(gpt2_folder(tmp_path, tied=True))
    assert weights.blueprint.tied
    assert HEAD not in weights.blueprint.parameters


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_an_equal_copy_of_the_table_is_dropped(tmp_path: Path, format: Format) -> None:
    state = gpt2_state(gpt2_config())
    state[HEAD] = state[EMBEDDING].clone()
    weights = load_folder(with_weights(tmp_path, state, format=format))
    assert weights.blueprint.tied
    assert_equals_transformers(weights)


def test_a_head_that_differs_overrules_a_config_that_ties(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state[HEAD] = state[EMBEDDING].clone()
    state[HEAD][30, 15] += 1e-6
    weights = load_folder(with_weights(tmp_path, state))
    assert not weights.blueprint.tied
    assert_equals_transformers(weights)


def test_a_head_alone_is_the_tied_table(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state[HEAD] = state.pop(EMBEDDING)
    weights = load_folder(with_weights(tmp_path, state))
    assert weights.blueprint.tied
    assert_equals_transformers(weights)


def test_an_equal_head_stays_untied_when_the_config_says_so(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state[HEAD] = state[EMBEDDING].clone()
    weights = load_folder(with_weights(tmp_path, state, tied=False))
    assert not weights.blueprint.tied
    assert_equals_transformers(weights)


def test_an_untied_config_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, gpt2_state(gpt2_config()), tied=False)
    with pytest.raises(WeightsError, match=r"none named lm_head\.weight \(1 missing\).*tie_word_embeddings"):
        load_folder(folder)


def test_a_head_of_another_shape_is_refused_before_it_is_compared(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state[HEAD] = state[EMBEDDING][:5].clone()
    with pytest.raises(WeightsError, match=r"lm_head\.weight must have the shape \[31, 16\], got \[5, 16\]"):
        load_folder(with_weights(tmp_path, state))


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


# Memory


def test_float32_tensors_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    array = load_folder(gpt2_folder(tmp_path)).tensor(EMBEDDING)
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_never_more_than_one_tensor_is_in_memory(tmp_path: Path, format: Any) -> None:
    folder = gpt2_folder(tmp_path, layers=6, hidden=128, format=format, dtype="float16")
    load_folder(folder).tensor(EMBEDDING)  # Imports and caches are no part of the measurement.
    tracemalloc.start()
    weights = load_folder(folder)
    for name in weights.blueprint.parameters:
        weights.tensor(name)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest_bytes = 128 * 4 * 128 * 4
    assert peak_bytes < 2 * largest_bytes + 400_000  # The float16 one, its float32 copy, and names.
    assert peak_bytes < weights.blueprint.parameter_count * 4 / 4


def test_safetensors_need_no_torch(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    code = (
        "import sys; from pathlib import Path; from model_release.model.weights.folder import SafetensorsFile;"
        f"SafetensorsFile(Path({str(folder / 'model.safetensors')!r})).read({EMBEDDING!r});"
        "print('torch' in sys.modules)"
    )
    scripts = Path(__file__).parents[2] / "scripts"
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(scripts)}, capture_output=True, check=True
    )
    assert result.stdout.strip() == b"False"


# Broken weights


def test_missing_parameters_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    del state["transformer.h.1.attn.c_proj.bias"], state["transformer.ln_f.weight"]
    with pytest.raises(WeightsError, match=r"none named transformer\.h\.1\.attn\.c_proj\.bias \(2 missing\)"):
        load_folder(with_weights(tmp_path, state))


def test_a_wrong_shape_names_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state["transformer.h.0.mlp.c_fc.weight"] = state["transformer.h.0.mlp.c_fc.weight"].T.clone()
    with pytest.raises(WeightsError, match=r"h\.0\.mlp\.c_fc\.weight must have the shape \[16, 64\], got \[64, 16\]"):
        load_folder(with_weights(tmp_path, state))


@pytest.mark.parametrize(
    "name",
    ["score.weight", "transformer.h.0.crossattention.c_attn.weight", "transformer.h.2.ln_1.bias", "h.0.attn.bia"],
)
def test_a_tensor_that_gpt2_does_not_have_is_refused_by_name(tmp_path: Path, name: str) -> None:
    state = gpt2_state(gpt2_config()) | {name: torch.zeros(2)}
    with pytest.raises(WeightsError, match="must hold parameters of gpt2 only, got " + name):
        load_folder(with_weights(tmp_path, state))


def test_a_parameter_under_both_names_is_refused(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    state["ln_f.bias"] = torch.ones(16)
    with pytest.raises(WeightsError, match=r"must hold transformer\.ln_f\.bias once, got it twice"):
        load_folder(with_weights(tmp_path, state))


@pytest.mark.parametrize(("format", "dtype"), [("safetensors", "I8"), ("bin", "torch.int8")])
def test_quantized_weights_are_refused(tmp_path: Path, format: Format, dtype: str) -> None:
    state = gpt2_state(gpt2_config())
    state[EMBEDDING] = state[EMBEDDING].to(torch.int8)
    with pytest.raises(WeightsError, match=f"wte.weight must be stored as F32, F16, BF16, F64, got {dtype}"):
        load_folder(with_weights(tmp_path, state, format=format))


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


def test_a_file_cut_short_after_it_was_checked_is_a_clear_error(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    weights = load_folder(folder)
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(WeightsError, match="must stay as it is while it is read"):
        weights.tensor(EMBEDDING)


class _RunsCode:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"echo ran > {self.marker}",))


@pytest.mark.parametrize("wrapping", ["archive", "legacy", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, wrapping: str) -> None:
    marker = tmp_path / "marker"
    folder = gpt2_folder(tmp_path / "model", format="bin")
    state = gpt2_state(gpt2_config()) | {"transformer.ln_f.bias": _RunsCode(marker)}
    path = folder / "pytorch_model.bin"
    if wrapping == "plain pickle":
        path.write_bytes(pickle.dumps(_RunsCode(marker)))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=wrapping == "archive")
    with pytest.raises(WeightsError, match=r"must be a pickle of nothing but tensors.*nothing in it was run"):
        load_folder(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], {1: torch.ones(2)}, {"weights": {"a": torch.ones(2)}}, {"a": torch.ones(2).to_sparse()}],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    folder = gpt2_folder(tmp_path, format="bin")
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"must hold (named tensors|dense tensors|the tensors of one model)"):
        load_folder(folder)


class _Asks:
    """A pickle that calls something which PyTorch lets through, and which takes five gigabytes."""

    def __init__(self, what: Callable[..., Any]) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what, (5 * 10**9,)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("what", [bytearray, torch.Tensor, torch.FloatStorage], ids=lambda what: what.__name__)
def test_a_pickle_that_asks_for_memory_is_refused_before_it_gets_any(
    tmp_path: Path, what: Callable[..., Any], is_archive: bool
) -> None:
    torch.save({"a": _Asks(what)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=is_archive)
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match="must be a"):
        PickledFile(tmp_path / "pytorch_model.bin")


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/data.pkl", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match="compressed"):
        PickledFile(path)


PICKLES = {
    "a memo of 2^31 places": (b"\x80\x02}r\xff\xff\xff\x7f.", "more parts than bytes"),
    "bytes that are not there": (b"\x80\x05\x96" + (5 * 10**9).to_bytes(8, "little") + b".", "must be a"),
    "tuples that overflow the stack": (b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.", "tensors"),
    "a storage of more than the file": (b"\x80\x02(J\xff\xff\xff\x7ftQ.", "more elements"),
}


@pytest.mark.parametrize(("content", "says"), PICKLES.values(), ids=PICKLES)
def test_a_pickle_of_lies_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match=says):
        PickledFile(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
def test_a_negative_view_is_read_as_its_values(tmp_path: Path, is_archive: bool) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch._neg_view(torch.ones(3))}, path, _use_new_zipfile_serialization=is_archive)
    assert PickledFile(path).read("a").tolist() == [-1.0, -1.0, -1.0]


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


# What training programs leave behind


def put_before(beginning: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {beginning + name: value for name, value in state.items()}


BEGINNINGS = [
    "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "base_model.model.", "model.", "net.",
    "model._orig_mod.", "_forward_module.model.", "student.backbone.gpt.", "transformer.transformer.",
]  # fmt: skip


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("family", ["gpt2", "bare gpt2", "llama, tied", "mixtral", "gpt_neox, parallel", "opt"])
def test_what_stands_before_all_names_is_left_out(tmp_path: Path, beginning: str, family: str) -> None:
    folder = family_folder(tmp_path, EVERY[family.removeprefix("bare ")])
    expected = load_folder(folder)
    state = load_file(folder / "model.safetensors")
    save_weights(folder, put_before(beginning, without_prefix(state) if family.startswith("bare") else state))
    weights = load_folder(folder)
    assert weights.blueprint == expected.blueprint
    for name in weights.blueprint.parameters:
        assert np.array_equal(weights.tensor(name), torch.as_tensor(state[name]).numpy()), name


def test_parts_that_wrappers_put_into_names_are_left_out(tmp_path: Path) -> None:
    state = gpt2_state(gpt2_config())
    wrapped = {
        f"_fsdp_wrapped_module.{name.replace('h.0.', 'h.0._fsdp_wrapped_module._checkpoint_wrapped_module.')}": value
        for name, value in state.items()
    }
    weights = load_folder(with_weights(tmp_path, wrapped))
    assert all(np.array_equal(weights.tensor(name), state[name].numpy()) for name in weights.blueprint.parameters)


@pytest.mark.parametrize("family", EVERY)
def test_no_family_has_a_name_that_wrappers_use(family: str) -> None:
    parameters = draw_blueprint(EVERY[family]).parameters
    for prefix in load_families()["prefixes"]:
        assert not [name for name in parameters if name.startswith(prefix) or f".{prefix}" in name]


def test_a_beginning_that_does_not_help_is_named(tmp_path: Path) -> None:
    state = {
        f"net.blocks.{name.removeprefix('transformer.h.')}": value for name, value in gpt2_state(gpt2_config()).items()
    }
    with pytest.raises(
        WeightsError, match=r"none named transformer\.wte\.weight \(28 missing\).* begin with 'net\.blocks'"
    ):
        load_folder(with_weights(tmp_path, state))


def test_a_part_beside_the_model_is_refused_by_its_own_name(tmp_path: Path) -> None:
    state = put_before("model.", gpt2_state(gpt2_config())) | {"v_head.summary.weight": torch.zeros(1, 16)}
    with pytest.raises(WeightsError, match=r"must hold parameters of gpt2 only, got v_head\.summary\.weight"):
        load_folder(with_weights(tmp_path, state))


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


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "module"])
def test_the_model_of_a_training_checkpoint_is_read(tmp_path: Path, key: str) -> None:
    state = gpt2_state(gpt2_config())
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 1e-4}]}
    checkpoint = {key: put_before("_orig_mod.", state), "optimizer": optimizer, "iter_num": 7, "best_val_loss": 1.5}
    folder = with_weights(tmp_path, state)
    (folder / "model.safetensors").unlink()
    torch.save(checkpoint, folder / "pytorch_model.bin")
    weights = load_folder(folder)
    assert all(np.array_equal(weights.tensor(name), state[name].numpy()) for name in weights.blueprint.parameters)


@pytest.mark.parametrize("keys", [["ema"], ["ema", "teacher"], ["model", "state_dict"]])
def test_a_checkpoint_of_unclear_models_names_what_is_in_it(tmp_path: Path, keys: list[str]) -> None:
    state = gpt2_state(gpt2_config())
    folder = with_weights(tmp_path, state)
    (folder / "model.safetensors").unlink()
    torch.save({"epoch": 3, **dict.fromkeys(keys, state)}, folder / "pytorch_model.bin")
    with pytest.raises(
        WeightsError, match=f"got a checkpoint with tensors at '{', '.join(keys)}'. Save the model's alone"
    ):
        load_folder(folder)


@pytest.mark.parametrize(("family", "layout"), [("gpt2", "nn.Linear"), ("llama, tied", "Conv1D"), ("bloom", "Conv1D")])
def test_matrices_that_lie_the_other_way_are_named(tmp_path: Path, family: str, layout: str) -> None:
    folder = family_folder(tmp_path, EVERY[family])
    state = load_file(folder / "model.safetensors")
    tables = [draw_blueprint(EVERY[family]).tokens.name]
    turned = {
        name: value.transpose(-1, -2) if value.ndim > 1 and name not in tables else value
        for name, value in state.items()
    }
    save_weights(folder, turned)
    with pytest.raises(WeightsError, match=rf"must have the shape .* It lies as in {layout}, and .*: transpose all"):
        load_folder(folder)


def test_adapters_alone_are_to_be_merged_first(tmp_path: Path) -> None:
    save_file(
        {"base_model.model.h.0.attn.c_attn.lora_A.weight": torch.ones(2, 2)}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(WeightsError, match=r"adapters of PEFT alone\. Merge them .*merge_and_unload"):
        load_folder(tmp_path)


@pytest.mark.parametrize("part", ["c_attn.lora_A.default.weight", "c_attn.base_layer.weight"])
def test_adapters_among_the_weights_are_to_be_merged_first(tmp_path: Path, part: str) -> None:
    state = put_before("base_model.model.", gpt2_state(gpt2_config()))
    state[f"base_model.model.transformer.h.0.attn.{part}"] = torch.ones(2, 2)
    with pytest.raises(WeightsError, match=r"must be one model, got base_model\.model\..* of an adapter\. Merge"):
        load_folder(with_weights(tmp_path, state))


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
