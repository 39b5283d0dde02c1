"""Every family by one mechanism: what we export is what the family's own code computes, of every kind and layer."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from families import EVERY, FIRST_WAVE, RELATIVE, config, every_output, family_folder, network, token_ids
from model_release.base.errors import WeightsError
from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import parse_blueprint
from model_release.contract.comparison_checks import check_reference
from model_release.contract.families import load_families
from model_release.contract.measures import Array
from model_release.contract.output_checks import Run, check_outputs
from model_release.contract.request import SelectionRequest
from model_release.contract.selection import Selection
from model_release.model.export.attention import AttentionWatch, Route, route_of
from model_release.model.export.network import Network
from model_release.model.export.seams import Seams
from model_release.model.export.survey import draw_blueprint
from model_release.model.pipeline import advise
from model_release.model.weights.folder import load_folder


def run(model: Network, route: Route, ids: Array, outputs: tuple[Output, ...]) -> dict[str, Array]:
    wanted = frozenset(output.name for output in outputs)
    with torch.no_grad(), Seams(model, route=route, wanted=wanted) as seen:
        return {name: tensor.numpy() for name, tensor in seen.run(torch.from_numpy(ids)).items()}


def test_every_supported_family_has_a_tiny_model() -> None:
    assert {entries["model_type"] for entries in EVERY.values()} == load_families()["families"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_output_of_every_layer_is_what_the_familys_own_code_computes(name: str) -> None:
    (ours, blueprint), (theirs, _) = network(name, in_the_open=True), network(name, in_the_open=False)
    outputs = every_output(blueprint)
    # As many tokens as heads or kv heads, too: shapes alone do not tell which axis is which.
    for batch, seq in ((1, 1), (2, 7), (3, 2), (2, 6), (1, blueprint.context)):
        ids = token_ids(blueprint, batch, seq)
        got, expected = run(ours, route_of(ours), ids, outputs), run(theirs, "tapped", ids, outputs)
        for output in outputs:
            if output.kind == "logit_lens":
                continue  # Made of the graph; below.
            error = np.sqrt(np.square(got[output.name] - expected[output.name]).mean())
            assert error <= RELATIVE * np.sqrt(np.square(expected[output.name]).mean()), output.name
        # Clauses between outputs guard what both routes share: the roles of modules.
        judgement = check_outputs(Run(ids=ids, outputs=expected), outputs)
        assert list(map(str, judgement.findings)) == []


@pytest.mark.parametrize("name", EVERY)
def test_logits_layers_attention_and_keys_are_what_transformers_itself_returns(name: str) -> None:
    """Without any function of ours: families whose attention both routes tap have no other witness."""
    theirs, blueprint = network(name, in_the_open=False)
    ids = token_ids(blueprint, 2, 7)
    kinds = ("resid_pre", "attn_probs")
    selection = Selection(layers=tuple(range(blueprint.layers)), activations=kinds, cache=True)
    got = run(theirs, "tapped", ids, load_contract().expected_outputs(blueprint, selection))
    with torch.no_grad():
        plain = theirs.model(torch.from_numpy(ids), output_hidden_states=True, output_attentions=True, use_cache=False)
        kept = theirs.model(torch.from_numpy(ids), use_cache=True).past_key_values
    expected = {"logits": plain.logits}
    for layer in range(blueprint.layers):
        expected[f"layer_{layer}_resid_pre"] = plain.hidden_states[layer]
        expected[f"layer_{layer}_attn_probs"] = plain.attentions[layer]
        expected[f"present.{layer}.key"] = kept.layers[layer].keys
        expected[f"present.{layer}.value"] = kept.layers[layer].values
    for output, tensor in expected.items():
        ours, wanted = got[output], tensor.numpy()
        if output.startswith("present."):
            ours = ours[..., -wanted.shape[-2] :, :]  # Windows forget.
            ours = ours.repeat(wanted.shape[1] // ours.shape[1], axis=1)  # Kept for every head by some.
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5, err_msg=output)


@pytest.mark.parametrize("name", EVERY)
def test_a_blueprint_reads_back_as_it_was_written(name: str) -> None:
    blueprint = draw_blueprint(EVERY[name])
    assert parse_blueprint(blueprint.to_json()) == blueprint


# What a checkpoint calls its tensors


def saved_by_transformers(folder: Path, entries: dict[str, Any], **changes: Any) -> PreTrainedModel:
    """A checkpoint as transformers writes it, with the names that people's checkpoints have."""
    plain = {key: value for key, value in entries.items() if key != "model_type" and value is not None}
    built = AutoConfig.for_model(entries["model_type"], **plain, bos_token_id=None, eos_token_id=None)
    built.pad_token_id = None
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(built)
    model.save_pretrained(folder, **changes)
    (folder / "config.json").write_text(json.dumps(entries))
    return model


@pytest.mark.parametrize(
    "name", ["gpt_neox, parallel", "mixtral", "qwen3_moe", "olmoe", "granitemoe", "gpt_oss", "opt"]
)
def test_a_checkpoint_that_transformers_saved_holds_the_same_numbers(name: str, tmp_path: Path) -> None:
    model = saved_by_transformers(tmp_path, EVERY[name])
    weights = load_folder(tmp_path)
    for parameter, value in model.named_parameters():
        np.testing.assert_array_equal(weights.tensor(parameter), value.detach().numpy(), err_msg=parameter)


def test_experts_stored_one_by_one_are_stacked_as_they_are_read(tmp_path: Path) -> None:
    saved_by_transformers(tmp_path, EVERY["mixtral"])
    stored = load_file(tmp_path / "model.safetensors")
    names = [name for name in stored if ".experts.3.w1." in name]
    assert names, "transformers stores experts one by one"
    stack = load_folder(tmp_path).tensor("model.layers.0.mlp.experts.gate_up_proj")
    np.testing.assert_array_equal(stack[3, :88], stored[sorted(names)[0]].numpy())
    del stored[names[0]]
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"must hold 10 tensors for model\.layers.*gate_up_proj, got 9"):
        load_folder(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prefixes_of_training_tools_and_halves_are_read(prefix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = family_folder(tmp_path, config("llama", layers=1))
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file({f"{prefix}{name}": value.to(dtype) for name, value in state.items()}, folder / "model.safetensors")
    got = load_folder(folder).tensor("lm_head.weight")
    np.testing.assert_array_equal(got, state["lm_head.weight"].to(dtype).float().numpy())


def test_constants_that_transformers_saves_with_the_weights_are_read_over_if_they_are_the_codes(tmp_path: Path) -> None:
    folder = family_folder(tmp_path, config("apertus", layers=1))
    state = load_file(folder / "model.safetensors")
    saved = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config("apertus", layers=1))).state_dict()
    constants = {name: value.to(torch.bfloat16) for name, value in saved.items() if name not in state}
    assert sorted(constants) == ["model.layers.0.mlp.act_fn.beta", "model.layers.0.mlp.act_fn.eps"]
    save_file(state | constants, folder / "model.safetensors")
    assert load_folder(folder).blueprint == draw_blueprint(config("apertus", layers=1))
    for wrong in (torch.tensor(0.7), torch.full((2,), 0.5), torch.tensor(1)):
        save_file(state | constants | {"model.layers.0.mlp.act_fn.beta": wrong}, folder / "model.safetensors")
        with pytest.raises(WeightsError, match=r"act_fn\.beta must be 0\.5, a constant of the model"):
            load_folder(folder)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (config("llama", layers=30_000_000), "num_hidden_layers must be a whole number from 1 to 512"),
        (config("llama", auto_map={"AutoModel": "x--y.Z"}), "auto_map"),
        (config("llama", _attn_implementation="someone/kernel"), "_attn_implementation"),
        (config("llama", quantization_config={"quant_method": "gptq"}), "quantization_config"),
        (config("opt", do_layer_norm_before=False), "norms the residual stream itself"),
        (
            config("opt", hidden_size=36, word_embed_proj_dim=20),
            "word_embed_proj_dim must not be 20. Its embeddings are",
        ),
        (config("bloom", apply_residual_connection_post_layernorm=True), "add to the normed stream"),
        (
            config("llama", num_attention_heads=6, num_key_value_heads=4),
            "must be a multiple of num_key_value_heads, got 6",
        ),
        (config("falcon", alibi=True), "position bias"),
        (config("mpt"), "mpt is not"),
        (config("xglm"), "xglm is not"),
        (config("t5"), "An encoder needs a second input"),
        (config("llama", is_encoder_decoder=True), "is_encoder_decoder"),
        (config("llama", architectures=["LlamaForSequenceClassification"]), "must be LlamaForCausalLM"),
        (config("llama", num_local_experts=10**9), "num_local_experts"),
    ],
    ids=range(15),
)
def test_what_is_not_supported_is_refused_in_one_sentence_before_transformers_sees_it(
    entries: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoConfig, "for_model", None)
    with pytest.raises(WeightsError, match=says):
        draw_blueprint(entries)


def test_a_model_promises_its_positions_up_to_2048_or_what_is_asked_for() -> None:
    long = config("llama", max_position_embeddings=131_072)
    assert draw_blueprint(long).context == 2048
    assert draw_blueprint(long, context=64).context == 64
    assert draw_blueprint(config("llama")).context == 40
    with pytest.raises(WeightsError, match="--context must be from 1 to the model's 40 positions"):
        draw_blueprint(config("llama"), context=41)


def test_logits_of_the_last_position_are_suggested_where_a_vocabulary_makes_them_large() -> None:
    large = draw_blueprint(config("llama", vocab_size=262_144, max_position_embeddings=2048))
    last = SelectionRequest(logits="last").resolve(large)
    said: list[str] = []
    for blueprint, selection in (
        (large, SelectionRequest().resolve(large)),
        (large, last),
        (replace(large, context=64), replace(last, logits="all")),
    ):
        advise(blueprint, selection, said.append)
    assert len(said) == 1
    assert "a run of 2048 tokens returns 2147 MB of logits; --logits last" in said[0]


# Mistakes that an export of such a model could make


Mutation = Callable[[pytest.MonkeyPatch, Network], None]


def with_attend(change: Callable[..., Any]) -> Mutation:
    """Changes what our attention is given; `change` takes and returns its arguments."""

    def mutate(monkeypatch: pytest.MonkeyPatch, _: Network) -> None:
        real = AttentionWatch.attend

        def attend(
            self: AttentionWatch, module: torch.nn.Module, q: Any, k: Any, v: Any, mask: Any = None, **rest: Any
        ) -> Any:
            q, k, v, rest = change(q, k, v, rest)
            return real(self, module, q, k, v, mask, **rest)

        monkeypatch.setattr(AttentionWatch, "attend", attend)

    return mutate


def window_off_by_one(monkeypatch: pytest.MonkeyPatch, _: Network) -> None:
    real = AttentionWatch.mask

    def mask(self: AttentionWatch, *, mask_function: Any, **rest: Any) -> torch.Tensor:
        return real(self, mask_function=lambda b, h, q, k: mask_function(b, h, q - 1, k) | (k == q), **rest)

    monkeypatch.setattr(AttentionWatch, "mask", mask)


def rope_off_by_one(monkeypatch: pytest.MonkeyPatch, _: Network) -> None:
    """Keys alone: if both are turned too far, no score changes."""
    from transformers.models.llama import modeling_llama

    real = modeling_llama.apply_rotary_pos_emb

    def turned(q: Any, k: Any, cos: Any, sin: Any) -> Any:
        return real(q, k, cos, sin)[0], real(q, k, cos.roll(1, 1), sin.roll(1, 1))[1]

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", turned)


def gate_and_up_swapped(monkeypatch: pytest.MonkeyPatch, ours: Network) -> None:
    for block in ours.blocks:
        mlp: Any = block.mlp
        monkeypatch.setattr(mlp, "forward", lambda x, m=mlp: m.down_proj(m.act_fn(m.up_proj(x)) * m.gate_proj(x)))


def post_norm_skipped(monkeypatch: pytest.MonkeyPatch, ours: Network) -> None:
    for block in ours.blocks:
        monkeypatch.setattr(block.post_attention_layernorm, "forward", lambda x: x * 1.0)


MUTATIONS: dict[str, tuple[str, Mutation, str]] = {
    "window off by one": ("mistral", window_off_by_one, "PROB02"),
    "kv groups swapped": (
        "llama, tied",
        with_attend(lambda q, k, v, rest: (q, k, v.flip(1), rest)),
        "NUM01",
    ),
    "scaling wrong": (
        "llama, tied",
        with_attend(lambda q, k, v, rest: (q, k, v, rest | {"scaling": 1.0})),
        "NUM01",
    ),
    "softcap missing": (
        "gemma2",
        with_attend(lambda q, k, v, rest: (q, k, v, rest | {"softcap": None})),
        "NUM01",
    ),
    "sinks missing": (
        "gpt_oss",
        with_attend(lambda q, k, v, rest: (q, k, v, rest | {"s_aux": None})),
        "NUM01",
    ),
    "rope off by one": ("llama, tied", rope_off_by_one, "NUM01"),
    "gate and up swapped": ("llama, tied", gate_and_up_swapped, "NUM01"),
    "post-norm skipped": ("gemma2", post_norm_skipped, "NUM01"),
}


@pytest.mark.parametrize(("name", "mutate", "clause"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_mistake_in_a_part_is_rejected_by_the_clause_one_expects(
    name: str, mutate: Mutation, clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ours, blueprint), (theirs, _) = network(name, in_the_open=True), network(name, in_the_open=False)
    outputs, ids = every_output(blueprint, "logit_lens"), token_ids(blueprint, 2, 12)
    precision = load_contract().precision("fp32")

    def broken() -> set[str]:
        got = Run(ids=ids, outputs=run(ours, route_of(ours), ids, outputs))
        return {*(check_outputs(got, outputs) + check_reference(got.outputs, expected, outputs, precision)).broken}

    expected = run(theirs, "tapped", ids, outputs)
    assert broken() == set()
    mutate(monkeypatch, ours)
    assert clause in broken()


def test_the_first_wave_is_what_the_issue_names() -> None:
    families = {entries["model_type"] for entries in FIRST_WAVE.values()}
    assert {"gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox", "gpt_neo", "opt", "gemma3_text"} < families
