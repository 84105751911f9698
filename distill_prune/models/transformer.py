"""BERT as a classifier: a pre-trained encoder of word pieces, and a linear head on one vector a sentence.

    h = encoder(norm(word[id] + position[i] + type[segment]))      attention leaves the padding out
    mean:        s = mean of h over the tokens            cls_pooler:   s = tanh(W h[0] + b), BERT's own
    logits = V s + c

In a network of a union of tasks the head has a block of classes for each; a sentence's segments say which task it is of,
and the logits of the other blocks are so far below its own that no loss or gradient sees them. Attention is computed as
written, for a fused kernel cannot be differentiated twice. There is no dropout: every draw of a training comes from a
stream that its step names, and a layer's would not.

References:
    | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al., 2019),
      https://arxiv.org/abs/1810.04805
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), for what is prunable,
      https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.settings import Entry
from distill_prune.vision import torchvision

FAR = -1e4
"""The logit of another task's class: finite, for 0 times it is in the loss of soft labels; its probability is exactly 0."""


class Configuration(BaseModel):
    """What a BERT is built from: the fields of its config.json that decide it. The values are those of BERT-base."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    vocab_size: int = Field(30_522, ge=2)
    hidden_size: int = Field(768, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    intermediate_size: int = Field(3_072, ge=1)
    hidden_act: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    max_position_embeddings: int = Field(512, ge=2)
    type_vocab_size: int = Field(2, ge=2)
    layer_norm_eps: float = Field(1e-12, gt=0)
    initializer_range: float = Field(0.02, ge=0)

    @model_validator(mode="after")
    def _heads(self) -> Configuration:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} attention heads")
        return self


def _whole(config: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if config is None else Configuration(**config).model_dump()


class EncoderSettings(Entry):
    """Settings of a network that begins at a pre-trained encoder; `config` and `weights` are found in its directory."""

    pooling: Literal["mean", "cls_pooler"] = Field("cls_pooler", description="the vector of a sentence that the head reads")
    prune_pooler: bool = Field(False, description="the pooler's matrix is prunable too, as in Chen et al.")
    frozen: Literal["embeddings", "none"] = Field("embeddings", description="what training leaves as it is")
    heads: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="of a union of tasks: the number of each task's classes, in order"
    )
    config: Annotated[dict[str, Any] | None, AfterValidator(_whole)] = Field(
        None, description="the encoder's sizes, read from its directory"
    )
    weights: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="sha256 of the file of weights, to be held to")

    @model_validator(mode="after")
    def _pooler(self) -> EncoderSettings:
        if self.prune_pooler and self.pooling != "cls_pooler":
            raise ValueError(f"prune_pooler prunes BERT's pooler, and pooling: {self.pooling} has none")
        return self


def missing(name: str, package: str) -> UserError:
    """The error of a network whose optional package is not installed."""
    return UserError(f"model '{name}' needs a package that is missing: {package}: pip install 'distill-prune[text]'")


def _bert(name: str) -> ModuleType:
    """transformers' module of BERT, for the model `name`.

    Raises:
        UserError: the package, or one that it needs, is missing.
    """
    with contextlib.suppress(ImportError):
        torchvision()  # transformers imports it where it finds it, without the mend that this door knows
    try:
        bert = importlib.import_module("transformers.models.bert.modeling_bert")
    except ImportError as problem:
        raise missing(name, (problem.name or "transformers").partition(".")[0]) from None
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return bert


def _encoder(settings: EncoderSettings, config: Configuration) -> Any:
    """transformers' BertModel with random weights; nothing is read or looked up."""
    bert = _bert(settings.name)
    sizes = bert.BertConfig(
        **config.model_dump(),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        attn_implementation="eager",
    )
    return bert.BertModel(sizes, add_pooling_layer=settings.pooling == "cls_pooler")


class Transformer(nn.Module):
    """Logits (N, K) of sentences: of tokens (N, 2, L), or of word embeddings in their place (N, S, D).

    Tokens are word pieces and segments, 0 where there is padding. A batch is cut to its longest sentence.
    """

    bert: Any
    owner: Tensor

    def __init__(self, settings: EncoderSettings, config: Configuration, classes: int) -> None:
        super().__init__()
        # The head is drawn first, so that with one seed it is the same above every encoder of this width.
        classifier = nn.Linear(config.hidden_size, classes)
        nn.init.normal_(classifier.weight, std=config.initializer_range)
        nn.init.zeros_(classifier.bias)
        self.bert = _encoder(settings, config)
        self.classifier = classifier
        self.config, self.heads = config, settings.heads
        self.head = ("classifier.weight", "classifier.bias")
        self.prunable = tuple(
            f"bert.{name}.weight"
            for name, layer in self.bert.named_modules()
            if isinstance(layer, nn.Linear) and (settings.prune_pooler or not name.startswith("pooler."))
        )
        sizes = settings.heads or (classes,)
        tasks = torch.tensor([task for task, size in enumerate(sizes) for _ in range(size)])
        self.register_buffer("owner", tasks, persistent=False)  # (K,) the task of every class
        if settings.frozen == "embeddings":
            self.bert.embeddings.requires_grad_(False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Word embeddings (N, L, D) of tokens (N, 2, L), those of padding too, before positions are added.

        Raises:
            DataError: a word piece that the network does not have.
        """
        self._cut(tokens)
        return self.bert.embeddings.word_embeddings(tokens[:, 0])  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of tokens (N, 2, L), integers, or embeddings (N, S, D), floats, all tokens of one sentence.

        Raises:
            DataError: a word piece, a width or a task that the network does not have, or too long a sentence.
        """
        if x.is_floating_point():
            if self.heads is not None:
                raise DataError("word embeddings do not say which task they are of", mend="a network without `heads`")
            if x.shape[2] != self.config.hidden_size:
                raise DataError("word embeddings of another network's width", got=x.shape[2], expected=self.config.hidden_size)
            self._hold(x.shape[1])
            return self.classifier(self._vector(self.bert.embeddings(inputs_embeds=x), None))  # type: ignore[no-any-return]
        x, padded = self._cut(x)
        ids, segments = x.unbind(1)
        h = self.bert.embeddings(input_ids=ids, token_type_ids=(segments - 1) % 2)
        logits: Tensor = self.classifier(self._vector(h, segments > 0 if padded else None))
        if self.heads is None:
            return logits
        task = (segments[:, :1] - 1) // 2
        return torch.where(self.owner == task, logits, FAR)

    def _vector(self, h: Tensor, kept: Tensor | None) -> Tensor:
        """The vector (N, D) of each sentence, of its embeddings (N, L, D); `kept` (N, L) are its tokens, None means all."""
        mask = None
        if kept is not None:
            kind = h.device.type
            low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype
            mask = torch.zeros(kept.shape, dtype=low, device=h.device).masked_fill_(~kept, torch.finfo(low).min)
            mask = mask[:, None, None, :]
        h = self.bert.encoder(h, attention_mask=mask).last_hidden_state
        if self.bert.pooler is not None:
            return self.bert.pooler(h)  # type: ignore[no-any-return]
        if kept is None:
            return h.mean(1)
        share = kept.to(h.dtype) / kept.sum(1, keepdim=True).clamp_min(1)
        return (h * share[:, :, None]).sum(1)

    def _cut(self, x: Tensor) -> tuple[Tensor, bool]:
        """Tokens (N, 2, L) without the columns that are padding everywhere, and whether some padding remains."""
        if x.is_meta:
            self._hold(x.shape[2])
            return x, False
        ids, segments = x.unbind(1)
        lengths = (segments > 0).sum(1)
        # One reading of the device for all that is looked at.
        short, long, least, most, last = torch.stack([*lengths.aminmax(), *ids.aminmax(), segments.max()]).tolist()
        self._hold(long)
        if least < 0 or most >= self.config.vocab_size:
            raise DataError(
                "a word piece that the network does not have",
                got=least if least < 0 else most,
                expected=f"0..{self.config.vocab_size - 1}",
                mend="the vocabulary of the network's own directory",
            )
        if self.heads is not None and (last - 1) // 2 >= len(self.heads):
            raise DataError(
                "a sentence of a task that the network has no head for",
                got=f"task {(last - 1) // 2}",
                expected=f"0..{len(self.heads) - 1}",
            )
        return x[:, :, : max(long, 1)], short < max(long, 1)

    def _hold(self, length: int) -> None:
        if length > self.config.max_position_embeddings:
            raise DataError(
                "a sentence that is too long for the network",
                got=f"{length} tokens",
                expected=f"at most {self.config.max_position_embeddings}",
            )


def build(settings: EncoderSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logits (N, classes) of tokens (N, 2, L) or embeddings (N, S, D), from random weights.

    Raises:
        ConfigError: the encoder's sizes are not known yet, or `heads` are not as many classes.
        UserError: the package that it takes is missing.
        ValueError: `shape` is of no sentences, or of more tokens than the encoder has positions for.
    """
    if settings.config is None:
        raise ConfigError(
            f"model '{settings.name}' does not know its encoder's sizes",
            mend="distill_prune.models.resolved(settings), which reads them from the encoder's directory",
        )
    config = Configuration(**settings.config)
    if len(shape) != 2 or (shape[0] != 2 and shape[1] != config.hidden_size):
        raise ValueError(f"it takes tokens (2, L) or word embeddings (S, {config.hidden_size})")
    length = shape[0] if shape[1] == config.hidden_size else shape[1]
    if length > config.max_position_embeddings:
        raise ValueError(f"{length} tokens, and the encoder has {config.max_position_embeddings} positions")
    if settings.heads is not None and sum(settings.heads) != classes:
        raise ConfigError(
            f"the heads of model '{settings.name}' do not cover the classes",
            got=f"{' + '.join(map(str, settings.heads))} = {sum(settings.heads)}",
            expected=classes,
        )
    return Transformer(settings, config, classes)
