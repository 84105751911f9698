"""BERT as a classifier: a pre-trained encoder of word pieces, and a linear head on one vector a sentence.

    h = encoder(tokens)
    mean:        s = mean of h over the tokens            cls_pooler:   s = tanh(W h[0] + b), BERT's own
    logits = V s + c

Or BERT with the head of its pre-training, as a masked language model: it predicts the word pieces that are asked.

    logits[i] = word norm(act(D h[i] + d)) + c            at every place i that is asked, word being the embeddings

For a union of tasks the head has a block of classes for each task. The segments of a sentence give its task; the logits of the
other blocks are so low that they do not change a loss or a gradient.

References:
    | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al., 2019),
      https://arxiv.org/abs/1810.04805
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_prune.errors import ConfigError, DataError
from distill_prune.models.encoder import Configuration as Configuration
from distill_prune.models.encoder import Encoder, EncoderSettings, Layout, bert_of, drawn, sizes_of

ASKED = 0.15
"""The share of word pieces that are asked, where operations are counted without looking at tokens: BERT's own."""

FAR = -1e4
"""The logit of another task's class: finite, for 0 times it is in the loss of soft labels; its probability is exactly 0."""


class Transformer(Encoder):
    """Logits (N, K) of sentences: of tokens (N, 2, L), or of word embeddings in their place (N, S, D)."""

    owner: Tensor

    def __init__(self, settings: EncoderSettings, config: Configuration, classes: int) -> None:
        # The head is drawn first, so that with one seed it is the same above every encoder of this width.
        classifier = drawn(nn.Linear(config.hidden_size, classes), config)
        super().__init__(settings, config)
        self.classifier, self.heads = classifier, settings.heads
        self.head = ("classifier.weight", "classifier.bias")
        sizes = settings.heads or (classes,)
        tasks = torch.tensor([task for task, size in enumerate(sizes) for _ in range(size)])
        self.register_buffer("owner", tasks, persistent=False)  # (K,) the task of every class

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Logits (N, K) of tokens (N, 2, L), integers, or embeddings (N, S, D), floats, all tokens of one sentence.
        Without the `layout` of tokens the host waits for the device.

        Raises:
            DataError: a word piece, a width or a task that the network does not have, or too long a sentence.
        """
        if x.is_floating_point():
            if self.heads is not None:
                raise DataError("word embeddings do not say which task they are of", fix="a network without `heads`")
            if x.shape[2] != self.config.hidden_size:
                raise DataError("word embeddings of another network's width", got=x.shape[2], expected=self.config.hidden_size)
            self._hold(x.shape[1])
            return self.classifier(self._vector(self.bert.embeddings(inputs_embeds=x), None))  # type: ignore[no-any-return]
        x, padded = self._cut(x, layout)
        ids, segments = x.unbind(1)
        h = self.bert.embeddings(input_ids=ids, token_type_ids=(segments - 1) % 2)
        logits: Tensor = self.classifier(self._vector(h, segments > 0 if padded else None))
        if self.heads is None:
            return logits
        task = (segments[:, :1] - 1) // 2
        return torch.where(self.owner == task, logits, FAR)

    def _vector(self, h: Tensor, kept: Tensor | None) -> Tensor:
        """The vector (N, D) of each sentence, of its embeddings (N, L, D); `kept` (N, L) are its tokens, None means all."""
        h = self._encoded(h, kept)
        if self.bert.pooler is not None:
            return self.bert.pooler(h)  # type: ignore[no-any-return]
        if kept is None:
            return h.mean(1)
        share = kept.to(h.dtype) / kept.sum(1, keepdim=True).clamp_min(1)
        return (h * share[:, :, None]).sum(1)

    def _know(self, last: int) -> None:
        tasks = len(self.heads or (1,))
        if last > 2 * tasks:
            raise DataError(
                "a sentence of a task that the network has no head for, or with word pieces that are asked",
                got=f"segment {last}, of task {(last - 1) // 2}",
                expected=f"tasks 0..{tasks - 1}",
            )


class Predictions(nn.Module):
    """BERT's own head: logits (A, V) of vectors (A, D), whose products with the word embeddings (V, D) are taken."""

    def __init__(self, transform: nn.Module, words: int) -> None:
        super().__init__()
        self.transform = transform
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, h: Tensor, words: Tensor) -> Tensor:
        return F.linear(self.transform(h), words, self.bias)


class Masked(Encoder):
    """Logits (A, V) of the word pieces that are asked in tokens (N, 2, L), example by example: segments above 2.

    Its head is BERT's own, without matrices that are pruned; the last of them are the word embeddings. Where the pooler is
    prunable it is there, and nothing reads it, so that masks fit the tasks that do.
    """

    def __init__(self, settings: EncoderSettings, config: Configuration) -> None:
        bert = bert_of(settings.name)
        transform = bert.BertPredictionHeadTransform(sizes_of(bert, config))
        drawn(transform.dense, config)
        super().__init__(settings, config)
        self.predictions = Predictions(transform, config.vocab_size)
        self.head = tuple(f"predictions.{name}" for name, _ in self.predictions.named_parameters())

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Logits (A, V) of tokens (N, 2, L), integers. Without their `layout` the host waits for the device to look at them.

        Raises:
            DataError: no word piece is asked, or one that the network does not have is there, or too long a sentence.
        """
        if x.is_floating_point():
            raise DataError("word embeddings do not say which word pieces are asked", fix="tokens, or a network of classes")
        x, padded = self._cut(x, layout)
        ids, segments = x.unbind(1)
        h = self.bert.embeddings(input_ids=ids, token_type_ids=(segments - 1) % 2)
        h = self._encoded(h, segments > 0 if padded else None)
        if layout is not None and layout.asked is not None:
            h = h.flatten(0, 1)[layout.asked]
        else:
            h = h.flatten(0, 1)[: len(x) * max(1, round(ASKED * x.shape[2]))] if x.is_meta else h[segments > 2]
        return self.predictions(h, self.bert.embeddings.word_embeddings.weight)  # type: ignore[no-any-return]

    def _know(self, last: int) -> None:
        if not 2 < last <= 4:
            raise DataError(
                "tokens of no masked language modelling: no word piece is asked",
                got=f"segments up to {last}",
                expected="3 or 4 where one is",
                fix="data: {name: masked}",
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
            fix="distill_prune.models.resolved(settings), which reads them from the encoder's directory",
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
    if settings.masked:
        if classes != config.vocab_size or settings.heads is not None:
            raise ConfigError(
                f"model '{settings.name}' says of masked word pieces which of its own they are",
                got=f"{classes} classes",
                expected=f"{config.vocab_size}, and no heads",
            )
        return Masked(settings, config)
    return Transformer(settings, config, classes)
