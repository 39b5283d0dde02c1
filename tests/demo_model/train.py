"""Make the demo model from nothing: text, tokenizer, training, evaluation, folder.

    apt-get install --no-install-recommends bible-kjv bible-kjv-text dict-devil miscfiles
    pip install torch transformers tokenizers safetensors
    python tests/demo_model/train.py

Every choice stands in `Recipe`; the same recipe, library versions and processor give the same
weights. The folder is written only after everything in it has been checked.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import card
import corpus
import ngrams
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "demo_model"
MAX_FOLDER_BYTES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what the model becomes."""

    seed: int = 1611
    threads: int = 2

    held_out_share: float = 0.01
    calibration_share: float = 0.007

    vocab_size: int = 4096
    hidden: int = 96
    layers: int = 12
    heads: int = 6
    positions: int = 256

    steps: int = 1800
    batch: int = 8
    warmup_steps: int = 100
    final_learning_rate_share: float = 0.02
    matrix_learning_rate: float = 1e-2
    other_learning_rate: float = 6e-3
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0


class DemoModelError(RuntimeError):
    """The folder that was written does not hold what it must hold."""


def train_tokenizer(text: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE as GPT-2 has it: 256 bytes first, `<|endoftext|>` last.

    Args:
        text: The training documents.
        vocab_size: Size of the vocabulary, with `<|endoftext|>`.

    Returns:
        The tokenizer, built from its vocabulary and merges alone.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    learned = json.loads(trained.to_str())["model"]
    vocab = {**learned["vocab"], corpus.END_OF_TEXT: vocab_size - 1}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([corpus.END_OF_TEXT])
    return tokenizer


def new_model(recipe: Recipe) -> GPT2LMHeadModel:
    """Build the untrained model with GPT-2's own initialisation."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocab_size,
            n_positions=recipe.positions,
            n_embd=recipe.hidden,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            activation_function="gelu_new",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=recipe.vocab_size - 1,
            eos_token_id=recipe.vocab_size - 1,
        )
    )


def batches(tokens: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Yield training batches without end, each epoch cut at another offset and shuffled.

    Args:
        tokens: The training stream, int64 [tokens].
        recipe: Gives the shape and the seed.

    Yields:
        int64 [batch, positions + 1]: the inputs and, moved by one, the targets.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    width = recipe.positions
    while True:
        offset = int(torch.randint(width, (1,), generator=generator))
        windows = tokens[offset:].unfold(0, width + 1, width)  # [windows, positions + 1]
        order = torch.randperm(len(windows), generator=generator)
        for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
            yield windows[order[start : start + recipe.batch]]


def optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Give the blocks' matrices to Muon and the rest to AdamW.

    Muon costs about an eighth more time a step, and learns far faster in so few steps: after 500 of them the
    validation loss was 4.10 nats where AdamW alone had 4.41 (hidden 104, vocabulary 2,048). It is meant
    for the matrices of the blocks; embeddings, biases and norms stay with AdamW.
    """
    matrices, embeddings, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            vectors.append(parameter)
        elif ".h." in name:
            matrices.append(parameter)
        else:
            embeddings.append(parameter)
    muon = torch.optim.Muon(
        matrices,
        lr=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [
            {"params": embeddings, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=recipe.other_learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    return [muon, adamw]


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Share of the full learning rate at a step: a linear rise, then half a cosine down.

    >>> recipe = Recipe(steps=1000, warmup_steps=100, final_learning_rate_share=0.0)
    >>> [round(learning_rate_share(step, recipe), 2) for step in (0, 99, 500, 999)]
    [0.01, 0.98, 0.5, 0.0]
    """
    rise = min(1.0, (step + 1) / recipe.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
    low = recipe.final_learning_rate_share
    return rise * (low + (1.0 - low) * cosine)


def train(model: GPT2LMHeadModel, tokens: torch.Tensor, recipe: Recipe) -> None:
    """Train the model in place and print the loss as it falls.

    Args:
        model: The model, float32.
        tokens: The training stream, int64 [tokens].
        recipe: Gives the schedule.
    """
    model.train(False)  # no dropout to switch on, so its calls can be skipped
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, recipe))
        for optimizer in optimizers(model, recipe)
    ]
    started = time.monotonic()
    running = math.log(recipe.vocab_size)
    for step, batch in zip(range(1, recipe.steps + 1), batches(tokens, recipe), strict=False):
        logits = model(batch[:, :-1], use_cache=False).logits  # [batch, positions, vocab]
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
        for schedule in schedules:
            schedule.optimizer.step()
            schedule.optimizer.zero_grad()
            schedule.step()
        running += 0.02 * (loss.item() - running)
        if step % 50 == 0:
            print(f"step {step}/{recipe.steps}: loss {running:.3f}, {time.monotonic() - started:.0f} s", flush=True)


@torch.inference_mode()
def total_nats(model: GPT2LMHeadModel, tokens: torch.Tensor) -> float:
    """Cost of every token but the first, in nats.

    Windows of full length overlap by one token, so each token is predicted exactly once, from what
    its window holds before it.

    Args:
        model: The model, float32.
        tokens: The text, int64 [tokens].
    """
    width = model.config.n_positions
    nats = 0.0
    for start in range(0, len(tokens) - 1, width - 1):
        window = tokens[start : start + width]
        logits = model(window[None]).logits[0, :-1]  # [window - 1, vocab]
        nats += functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return nats


def save(folder: Path, model: GPT2LMHeadModel, tokenizer: Tokenizer, split: corpus.Split) -> None:
    """Write everything but the README."""
    tensors = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.named_parameters()  # lists the tied table once, and no buffer
    }
    (folder / "model.safetensors").write_bytes(serialize(tensors, metadata={"format": "pt"}))
    _write_json(folder / "config.json", _config(model.config))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": corpus.END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "eos_token": corpus.END_OF_TEXT,
            "errors": "replace",
            "model_max_length": model.config.n_positions,
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": corpus.END_OF_TEXT,
        },
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    learned = json.loads(tokenizer.to_str())["model"]
    vocab = dict(sorted(learned["vocab"].items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in learned["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    for name in ("calibration", "validation"):
        (folder / f"{name}.txt").write_text(corpus.as_stream(getattr(split, name)), encoding="utf-8")


def _config(config: GPT2Config) -> dict[str, Any]:
    """Write every key of GPT-2's original config out, so that no reader needs a default."""
    return {
        "activation_function": config.activation_function,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": config.attn_pdrop,
        "bos_token_id": config.bos_token_id,
        "dtype": "float32",
        "embd_pdrop": config.embd_pdrop,
        "eos_token_id": config.eos_token_id,
        "initializer_range": config.initializer_range,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "model_type": "gpt2",
        "n_ctx": config.n_positions,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "n_layer": config.n_layer,
        "n_positions": config.n_positions,
        "resid_pdrop": config.resid_pdrop,
        "tie_word_embeddings": True,
        "vocab_size": config.vocab_size,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def prove(folder: Path, trained: GPT2LMHeadModel) -> None:
    """Read the folder back and check what its users rely on.

    Args:
        folder: The written folder.
        trained: The model the folder was written from.

    Raises:
        DemoModelError: Names everything that is wrong, not only the first thing.
    """
    findings = []
    tensors = load_file(folder / "model.safetensors")
    wanted = {name: parameter.shape for name, parameter in trained.named_parameters()}
    if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
        findings.append("the safetensors must hold exactly the parameters")
    if any(tensor.dtype != torch.float16 for tensor in tensors.values()):
        findings.append("every tensor must be float16")

    loaded = GPT2LMHeadModel.from_pretrained(folder)
    if any(parameter.dtype != torch.float32 for parameter in loaded.parameters()):
        findings.append("from_pretrained must upcast to float32")
    if not all(torch.equal(loaded.get_parameter(name), tensor.float()) for name, tensor in tensors.items()):
        findings.append("from_pretrained must give the stored weights")
    if loaded.lm_head.weight is not loaded.transformer.wte.weight:
        findings.append("the head must be tied to the token embedding")

    from_json = Tokenizer.from_file(str(folder / "tokenizer.json"))
    from_auto = AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as lone:
        for name in ("vocab.json", "merges.txt"):
            (Path(lone) / name).write_bytes((folder / name).read_bytes())
        from_merges = GPT2Tokenizer.from_pretrained(lone)
    texts = [
        "And God said, Let there be light: and there was light.",
        "Größe, 中文, العربية, naïve — “quoted”, 🙂👩‍👩‍👧 \t two  spaces\n\nand\r\nlines \u0000\u200b",
        f"one{corpus.END_OF_TEXT}two",
        (folder / "validation.txt").read_text(encoding="utf-8"),
    ]
    for text in texts:
        ids = from_json.encode(text).ids
        if from_json.decode(ids, skip_special_tokens=False) != text:
            findings.append(f"decoding must give the text back: {text[:40]!r}")
        if not ids == from_merges(text)["input_ids"] == from_auto(text)["input_ids"]:
            findings.append(f"all ways to load the tokenizer must agree: {text[:40]!r}")
    if from_json.get_vocab() != from_merges.get_vocab():
        findings.append("vocab.json must equal the vocabulary of tokenizer.json")
    if findings:
        raise DemoModelError("; ".join(findings))


@torch.inference_mode()
def generate(model: GPT2LMHeadModel, tokenizer: Tokenizer, prompt: str, *, temperature: float, seed: int) -> str:
    """Continue a prompt by at most 80 tokens: the likeliest ones at temperature 0, drawn ones above it."""
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer.encode(prompt).ids
    for _ in range(80):
        logits = model(torch.tensor([ids])).logits[0, -1]  # [vocab]
        if temperature > 0:
            probabilities = (logits / temperature).softmax(dim=-1)
            chosen = int(probabilities.multinomial(1, generator=generator))
        else:
            chosen = int(logits.argmax())
        if chosen == model.config.eos_token_id:
            break
        ids.append(chosen)
    return str(tokenizer.decode(ids))


def measure(folder: Path, split: corpus.Split, recipe: Recipe, *, training_seconds: float) -> card.Facts:
    """Measure what the README states, from the folder as it was saved."""
    model = GPT2LMHeadModel.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    train_ids = tokenizer.encode(corpus.as_stream(split.train)).ids
    baselines = {
        "unigram, add-one": ngrams.unigram(train_ids, vocab_size=recipe.vocab_size),
        "bigram, interpolated Kneser-Ney": ngrams.bigram(train_ids, vocab_size=recipe.vocab_size),
    }
    scores = []
    for part, documents in (("validation", split.validation), ("test", split.test)):
        ids = tokenizer.encode(corpus.as_stream(documents)).ids
        nats = {name: ngrams.total_nats(probability, ids) for name, probability in baselines.items()}
        nats["this model"] = total_nats(model, torch.tensor(ids))
        scores += [
            card.Score(
                model=name,
                part=part,
                nats=cost,
                tokens=len(ids) - 1,
                text_bytes=sum(document.size_bytes + 1 for document in documents),
            )
            for name, cost in nats.items()
        ]
    prompts = (("And the LORD said unto", 0.0), ("And the LORD said unto", 0.8), ("LOVE, n.", 0.8))
    return card.Facts(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        positions=recipe.positions,
        vocab_size=recipe.vocab_size,
        seed=recipe.seed,
        steps=recipe.steps,
        train_tokens=len(train_ids),
        read_tokens=recipe.steps * recipe.batch * recipe.positions,
        training_minutes=training_seconds / 60,
        documents={part: len(getattr(split, part)) for part in ("train", "calibration", "validation", "test")},
        train_bytes={
            source: sum(document.size_bytes for document in split.train if document.source == source)
            for source in dict.fromkeys(document.source for document in split.train)
        },
        scores=tuple(scores),
        samples=tuple(
            card.Sample(
                prompt=prompt,
                temperature=temperature,
                text=generate(model, tokenizer, prompt, temperature=temperature, seed=recipe.seed),
            )
            for prompt, temperature in prompts
        ),
    )


def _versions() -> str:
    names = ("torch", "transformers", "tokenizers", "safetensors")
    return ", ".join(f"{name} {metadata.version(name).partition('+')[0]}" for name in names)


def make(folder: Path, recipe: Recipe) -> None:
    """Run the whole recipe.

    Args:
        folder: Where the model goes; files of the same names are replaced.
        recipe: What to make.

    Raises:
        DemoModelError: The result is not what it must be; the folder is left as it was.
    """
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)

    split = corpus.split_documents(
        corpus.read_documents(),
        held_out_share=recipe.held_out_share,
        calibration_share=recipe.calibration_share,
    )
    tokenizer = train_tokenizer([document.text for document in split.train], recipe.vocab_size)
    tokens = torch.tensor(tokenizer.encode(corpus.as_stream(split.train)).ids)
    model = new_model(recipe)
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} training tokens", flush=True)

    started = time.monotonic()
    train(model, tokens, recipe)
    training_seconds = time.monotonic() - started

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as draft_name:
        draft = Path(draft_name)
        save(draft, model, tokenizer, split)
        prove(draft, model)
        facts = measure(draft, split, recipe, training_seconds=training_seconds)
        (draft / "README.md").write_text(card.render(facts, versions=_versions()), encoding="utf-8")
        size_bytes = sum(path.stat().st_size for path in draft.iterdir())
        if size_bytes > MAX_FOLDER_BYTES:
            raise DemoModelError(f"the folder must be at most {MAX_FOLDER_BYTES} bytes, got {size_bytes}")
        for path in sorted(draft.iterdir()):
            path.replace(folder / path.name)
    for score in facts.scores:
        figures = f"{score.nats_per_token:.4f} nats/token, {score.bits_per_byte:.4f} bits/byte"
        print(f"{score.part}: {score.model}: {figures}")
    print(f"{size_bytes / 1e6:.2f} MB, {training_seconds / 60:.1f} minutes of training")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make the demo model from nothing.")
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder (default: scripts/demo_model)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps (default: %(default)s)")
    arguments = parser.parse_args()
    make(arguments.out, Recipe(steps=arguments.steps))


if __name__ == "__main__":
    main()
