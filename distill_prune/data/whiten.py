"""ZCA whitening: x' = (x - m) W with W = U (S + eps)^(-1/2) U^T, U S U^T being the covariance of flat pixels in [0, 1].

eps = 0.1, unbiased covariance, no normalization before, as in the code of trajectory matching.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from torch import Tensor

from distill_prune.artifacts import Transform

EPS = 0.1


def fit_zca(pixels: Tensor, scale: float, rows: Tensor | None = None) -> Transform:
    """The whitening of `pixels` (N, C, H, W) / scale, with its inverse; tensors of D = C H W, float32. It is fitted to `rows`
    alone, where they are given."""
    from kornia.enhance import ZCAWhitening

    fitted = ZCAWhitening(eps=EPS, compute_inv=True).fit((pixels if rows is None else pixels[rows]).float() / scale)
    names = ("mean_vector", "transform_matrix", "transform_inv")
    return Transform("zca", {name: getattr(fitted, name).contiguous() for name in names})
