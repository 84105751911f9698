"""What products of float32 are computed in on CUDA: float32, or TF32 where a recipe says so.

TF32 keeps 10 of float32's 23 bits of a factor's fraction. torch allows it for convolutions by default. The switches are of the
process, for a backward pass runs in a thread of its own. They change nothing on a CPU.

References:
    | NVIDIA A100 Tensor Core GPU Architecture (NVIDIA, 2020), on TF32
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 in the block, or forbid it; as it was before afterwards."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
