"""The encoder below every head of a BERT: its sizes and settings, transformers' module, and the tokens that it takes.

    h = encoder(norm(word[id] + position[i] + type[segment]))      attention leaves the padding out

Attention is computed as written, for a fused kernel cannot be differentiated twice. There is no dropout: every draw of a
training comes from a stream that its step names, and a layer's would not.

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
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from distill_prune.errors import DataError, Misfit, UserError
from distill_prune.settings import Entry, Later
from distill_prune.vision import torchvision


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
    masked: bool = Later(False, description="the head is BERT's own of masked language modelling, as the data ask for it")
    config: Annotated[dict[str, Any] | None, AfterValidator(_whole)] = Field(
        None, description="the encoder's sizes, read from its directory"
    )
    weights: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="sha256 of the file of weights, to be held to")

    @property
    def has_pooler(self) -> bool:
        """Whether the network has BERT's pooler."""
        return self.prune_pooler if self.masked else self.pooling == "cls_pooler"

    @model_validator(mode="after")
    def _pooler(self) -> EncoderSettings:
        if self.prune_pooler and self.pooling != "cls_pooler":
            raise Misfit(
                f"it prunes BERT's pooler, and pooling: {self.pooling} has none", ["prune_pooler"], fix="pooling: cls_pooler"
            )
        return self


def missing(name: str, package: str, extra: str = "text") -> UserError:
    """The error of a network whose optional package is not installed."""
    return UserError(f"model '{name}' needs a package that is missing: {package}: pip install 'distill-prune[{extra}]'")


def bert_of(name: str) -> ModuleType:
    """transformers' module of BERT, for the model `name`.

    Raises:
        UserError: the package, or one that it needs, is missing.
    """
    with contextlib.suppress(ImportError):
        torchvision()  # transformers imports it where it finds it, without the fix that this door knows
    try:
        bert = importlib.import_module("transformers.models.bert.modeling_bert")
    except ImportError as problem:
        raise missing(name, (problem.name or "transformers").partition(".")[0]) from None
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return bert


def sizes_of(bert: ModuleType, config: Configuration) -> Any:
    """transformers' BertConfig."""
    return bert.BertConfig(
        **config.model_dump(),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        attn_implementation="eager",
    )


def _encoder(settings: EncoderSettings, config: Configuration) -> Any:
    """transformers' BertModel with random weights; nothing is read or looked up."""
    bert = bert_of(settings.name)
    return bert.BertModel(sizes_of(bert, config), add_pooling_layer=settings.has_pooler)


def drawn(linear: nn.Linear, config: Configuration) -> nn.Linear:
    """The layer with weights and biases as BERT draws those of a head."""
    nn.init.normal_(linear.weight, std=config.initializer_range)
    nn.init.zeros_(linear.bias)
    return linear


@dataclass(frozen=True)
class Layout:
    """Where the sentences of a batch of checked tokens are, so that the host need not wait until the device can tell.

    `length` is that of the longest, and `padded` says whether others are shorter. `asked` (A,) are the places of the word
    pieces that are asked, among all N x length places; None where none is.
    """

    length: int
    padded: bool
    asked: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tensor, *, masked: bool) -> Layout:
        """That of tokens (N, 2, L) on the CPU."""
        segments = tokens[:, 1]
        short, long = (segments > 0).sum(1).aminmax()
        length = max(int(long), 1)
        asked = (segments[:, :length] > 2).flatten().nonzero().squeeze(1) if masked else None
        return cls(length, int(short) < length, asked)

    def over(self, tensors: Iterator[Tensor]) -> Layout:
        """The same with the next of other tensors."""
        return self if self.asked is None else Layout(self.length, self.padded, next(tensors))


class Encoder(nn.Module):
    """What networks with either head have in common: tokens (N, 2, L) are word pieces and segments, 0 where there is padding.
    A batch is cut to its longest sentence."""

    bert: Any

    def __init__(self, settings: EncoderSettings, config: Configuration) -> None:
        super().__init__()
        self.bert = _encoder(settings, config)
        self.config = config
        self.prunable = tuple(
            f"bert.{name}.weight"
            for name, layer in self.bert.named_modules()
            if isinstance(layer, nn.Linear) and (settings.prune_pooler or not name.startswith("pooler."))
        )
        if settings.frozen == "embeddings":
            self.bert.embeddings.requires_grad_(False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Word embeddings (N, L, D) of tokens (N, 2, L), those of padding too, before positions are added.

        Raises:
            DataError: a word piece that the network does not have.
        """
        self.check(tokens)
        return self.bert.embeddings.word_embeddings(tokens[:, 0])  # type: ignore[no-any-return]

    def _encoded(self, h: Tensor, kept: Tensor | None) -> Tensor:
        """What the encoder makes (N, L, D) of embeddings (N, L, D); `kept` (N, L) are its tokens, None means all."""
        mask = None
        if kept is not None:
            kind = h.device.type
            low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype
            mask = torch.zeros(kept.shape, dtype=low, device=h.device).masked_fill_(~kept, torch.finfo(low).min)
            mask = mask[:, None, None, :]
        return self.bert.encoder(h, attention_mask=mask).last_hidden_state  # type: ignore[no-any-return]

    def _know(self, last: int) -> None:
        """Refuse tokens with segments up to `last` that the head does not know."""
        raise NotImplementedError

    def check(self, x: Tensor) -> tuple[int, int]:
        """The lengths of the shortest and of the longest sentence of tokens (N, 2, L). The host waits for the device.

        Raises:
            DataError: a word piece or a task that the network does not have, or too long a sentence.
        """
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
                fix="the vocabulary of the network's own directory",
            )
        self._know(last)
        return short, max(long, 1)

    def _cut(self, x: Tensor, layout: Layout | None) -> tuple[Tensor, bool]:
        """Tokens (N, 2, L) without the columns that are padding everywhere, and whether some padding remains."""
        if layout is not None:
            return x[:, :, : layout.length], layout.padded
        if x.is_meta:
            self._hold(x.shape[2])
            return x, False
        short, long = self.check(x)
        return x[:, :, :long], short < long

    def _hold(self, length: int) -> None:
        if length > self.config.max_position_embeddings:
            raise DataError(
                "a sentence that is too long for the network",
                got=f"{length} tokens",
                expected=f"at most {self.config.max_position_embeddings}",
            )
