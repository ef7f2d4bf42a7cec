"""Encodings, such as Fourier features: what a network sees of a point besides its coordinates.

An encoding maps points (..., d) to features (..., m), the coordinates first. Its ``pull_back`` turns a gradient in the
features into the gradient in the points, so that a network can give its value and gradient in one forward graph.
"""

import math

import torch
from torch import Tensor, nn


class FourierFeatureMapping(nn.Module):
    """Fourier features (Tancik et al. 2020, section 4): points (..., d) to features (..., d (1 + 2k)).

    x -> [x, sin(2^j π/2 x), cos(2^j π/2 x)] for j = 0 … k-1. The slowest wave has period 4. With a bounding_box_scale
    up to 2, Ω is at most 4 wide, so that wave does not repeat inside it, and no false copy of the surface can appear.

    Args:
        k: number of frequencies, at least 1.

    Raises:
        ValueError: k is below 1.
    """

    frequencies: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k: must be at least 1, got {k}")
        self.register_buffer("frequencies", torch.tensor([0.5 * math.pi * 2**i for i in range(k)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The features (..., d (1 + 2k)) of points (..., d)."""
        angles = x @ self._angle_slopes(x)
        return torch.cat([x, angles.sin(), angles.cos()], dim=-1)

    def pull_back(self, features: Tensor, gradient: Tensor) -> Tensor:
        """The gradient in x (..., d) of a function of the features, by the chain rule.

        Args:
            features: what ``forward`` gave (..., d (1 + 2k)), with the sines and cosines that the derivatives need.
            gradient: the function's derivative in each feature (..., d (1 + 2k)).
        """
        d = features.shape[-1] // (1 + 2 * len(self.frequencies))
        x, sines, cosines = torch.split(features, [d, *[d * len(self.frequencies)] * 2], dim=-1)
        slopes = self._angle_slopes(x).T
        of_features = torch.cat([torch.ones_like(x), cosines, -sines], dim=-1)
        identity = torch.eye(d, dtype=slopes.dtype, device=slopes.device)
        return (gradient * of_features) @ torch.cat([identity, slopes, slopes])

    def _angle_slopes(self, x: Tensor) -> Tensor:
        """The derivatives (d, k d) of the angles in x (..., d); one matrix product is faster than a loop over d."""
        return torch.kron(self.frequencies.to(x), torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))
