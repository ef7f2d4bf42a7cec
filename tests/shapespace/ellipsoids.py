"""A tiny space: seven ellipsoids that differ in one number, and a network that learns them in seconds."""

import numpy as np

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.shapespace.config import SETUP, load_space_config

SMALL = (
    "train.latent_size=4",
    "train.shapes_batch=2",
    "train.points_batch=64",
    "train.pts_in_omega=64",
    "train.checkpoint_frequency=0",
    "train.status_frequency=5",
    "train.fit_steps=60",
    "network.inputs={dims=[24,24], use_FFM=false, radius_init=0.7}",
    "plot.resolution=24",
    "plot.allow_open=true",
)


def ellipsoid(width, count=300, d=3, seed=0):
    """Points and normals of x²/w² + y² (+ z²) = 1, which is wider or narrower than a ball by w."""
    direction = np.random.default_rng(seed).standard_normal((count, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    axes = np.ones(d)
    axes[0] = width
    normals = direction / axes
    return PointCloud(direction * axes, normals / np.linalg.norm(normals, axis=1, keepdims=True))


def write(path, cloud):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, points=cloud.points, normals=cloud.normals)


def configured(folder, *keys):
    return load_space_config(str(SETUP), (f"train.input_path={str(folder)!r}".replace("'", '"'), *SMALL, *keys))


WIDTHS = np.linspace(0.6, 1.2, 7)


def write_all(folder):
    """The folder of the seven clouds, e0.npz to e6.npz."""
    for number, width in enumerate(WIDTHS):
        write(folder / f"e{number}.npz", ellipsoid(width, seed=number))
    return folder
