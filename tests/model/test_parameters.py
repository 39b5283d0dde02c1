"""Names in files -> parameters: the tied head, what programs put into names, and what is missing or too much."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builders import EMBEDDING, HEAD, Format, gpt2_config, gpt2_folder, gpt2_state, save_weights, without_prefix
from families import EVERY, family_folder
from gpt2_weights import assert_equals_transformers, put_before, with_weights
from model_release.base.errors import WeightsError
from model_release.contract.families import load_families
from model_release.model.export.survey import draw_blueprint
from model_release.model.weights.folder import load_folder

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


# Names, shapes and dtypes


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


# What training programs leave behind


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


@pytest.mark.parametrize("part", ["c_attn.lora_A.default.weight", "c_attn.base_layer.weight"])
def test_adapters_among_the_weights_are_to_be_merged_first(tmp_path: Path, part: str) -> None:
    state = put_before("base_model.model.", gpt2_state(gpt2_config()))
    state[f"base_model.model.transformer.h.0.attn.{part}"] = torch.ones(2, 2)
    with pytest.raises(WeightsError, match=r"must be one model, got base_model\.model\..* of an adapter\. Merge"):
        load_folder(with_weights(tmp_path, state))
