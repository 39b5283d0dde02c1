"""The README of the demo model, written from measured facts."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model pays for a text.

    Attributes:
        model: Name of the model.
        part: Name of the text.
        nats: Cost of all predicted tokens together.
        tokens: Predicted tokens, among them the mark before each document but the first.
        text_bytes: Bytes of the text without those marks.
    """

    model: str
    part: str
    nats: float
    tokens: int
    text_bytes: int

    @property
    def nats_per_token(self) -> float:
        """Mean loss; comparable only between models with this tokenizer."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Cost by length of the text; comparable between all models."""
        return self.nats / math.log(2) / self.text_bytes


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A text the model wrote."""

    prompt: str
    temperature: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the README states in figures."""

    parameters: int
    hidden: int
    layers: int
    heads: int
    positions: int
    vocab_size: int
    seed: int
    steps: int
    train_tokens: int
    read_tokens: int
    training_minutes: float
    documents: dict[str, int]
    train_bytes: dict[str, int]
    scores: tuple[Score, ...]
    samples: tuple[Sample, ...]


_PAGE = """\
# Demo model

A small GPT-2, trained from nothing on public-domain English, so that every command of this project
runs without a download. It writes sentences, not sense: use it to try things, not to answer anything.

| | |
|---|---|
| layout | `GPT2LMHeadModel`, tied head, `gelu_new`, no dropout |
| shape | {layers} layers, {heads} heads of {head_dim}, hidden {hidden}, {positions} positions |
| parameters | {parameters:,}, stored as float16, loaded as float32 |
| tokenizer | byte-level BPE in GPT-2's style, {vocab_size:,} tokens, among them all 256 bytes |
| `<\\|endoftext\\|>` | id {end_of_text_id}, stands before every document |
| training | {steps:,} steps, seed {seed}: {epochs:.1f} times the {train_tokens:,} tokens of the training text |
| training time | {training_minutes:.0f} minutes on 2 shared CPU cores |

## Text

| source | training text | status |
|---|---|---|
{sources}

Documents are chapters, entries and sections. Of the dictionary, who its verses are said to be by and ten
entries that are little but an insult to a people were left out.

- `calibration.txt`: {calibration} of the {train} training documents, to calibrate on.
- `validation.txt`: {validation} documents the model was never trained on, to measure quality on. {test} more
  were kept aside as a test and are not shipped.

The Bible repeats itself: some held-out chapters share sentences with chapters of the training text.

## Quality

Loss of the float16 weights in this folder, computed in float32. Each token but the first is predicted once,
from what its window of {positions} tokens holds before it.

| text | model | nats/token | bits/byte |
|---|---|---|---|
{scores}

The counting models are fitted on the training text and scored on the same tokens.

## Samples

{samples}

## Make it again

```
apt-get install --no-install-recommends bible-kjv bible-kjv-text dict-devil miscfiles
pip install torch transformers tokenizers safetensors
python tests/demo_model/train.py
```

Made with {versions}.
The command is seeded; other versions or processors round differently and give slightly other weights.
It writes this page too.

## Licences

The weights were made from public-domain text alone: the King James Bible of 1611 (Debian package
`bible-kjv-text`), Ambrose Bierce's *The Devil's Dictionary* of 1911 (`dict-devil`), and the Declaration of
Independence and the Constitution of the United States (`miscfiles`; the package around them is GPL-2+, the two
texts are public documents of a government). Each package says so in `/usr/share/doc/<package>/copyright`.
"""

_STATUS = {
    "King James Bible": "1611, copyright expired",
    "The Devil's Dictionary": "Ambrose Bierce, 1911, copyright expired",
    "United States state papers": "Declaration of Independence and Constitution, public documents",
}


def render(facts: Facts, *, versions: str) -> str:
    """Write the page.

    Args:
        facts: What was measured.
        versions: The libraries it was made with, as "name version, name version".
    """
    return _PAGE.format(
        **{name: getattr(facts, name) for name in Facts.__dataclass_fields__ if name not in ("scores", "samples")},
        **facts.documents,
        head_dim=facts.hidden // facts.heads,
        end_of_text_id=facts.vocab_size - 1,
        epochs=facts.read_tokens / facts.train_tokens,
        sources="\n".join(
            f"| {source} | {size / 1e6:.2f} MB | {_STATUS[source]} |" for source, size in facts.train_bytes.items()
        ),
        scores="\n".join(
            f"| {score.part} ({score.text_bytes:,} bytes, {score.tokens:,} tokens) | {score.model} "
            f"| {score.nats_per_token:.3f} | {score.bits_per_byte:.3f} |"
            for score in facts.scores
        ),
        samples="\n\n".join(_sample(sample) for sample in facts.samples),
        versions=versions,
    )


def _sample(sample: Sample) -> str:
    how = f"temperature {sample.temperature:g}, seeded" if sample.temperature else "greedy"
    return f"{how.capitalize()}, from `{sample.prompt}`:\n\n{_quoted(sample.text)}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
