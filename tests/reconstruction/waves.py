"""A ball with waves on it, and what a field that misses them is to be corrected by; all by formula."""

import numpy as np
import torch

from phase_recon.reconstruction.detail import data_at


def round_field(radius):
    """The signed distance to a ball (circle) about the origin, with its gradient."""

    def field(x):
        length = torch.linalg.vector_norm(x, dim=-1)
        return length - radius, x / length[:, None]

    return field


def on_sphere(count, d, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, d))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def bumps(directions):
    """Radius of a ball with waves of height 0.01 on it."""
    return 0.6 + 0.01 * np.sin(12 * directions[:, 0]) * np.cos(9 * directions[:, 1])


def data_of(points, field=None, normals=None):
    normals = np.zeros_like(points) if normals is None else normals
    return data_at(points, normals, np.ones(len(points)), field or round_field(0.6), oriented=False)
