"""Prints a hash of all that ``prepare`` gives for clouds of many kinds: a move of code must not change one of them.

    python tests/fingerprints.py > before.txt            # before a change
    python tests/fingerprints.py | diff before.txt -     # and after it

The hashes depend on the processor and on the versions of numpy, scipy and torch: compare those of one machine.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "code"))

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud, point_cloud
from phase_recon.geometry.points import Source
from phase_recon.reconstruction.preprocess import prepare
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import override

PUBLISHED = ("smooth_points", "estimate_normals", "drop_outliers", "weigh_by_area")  # not published


def sphere(count: int, random: np.random.Generator) -> np.ndarray:
    """Points (count, 3) uniform on the unit sphere."""
    x = random.normal(size=(count, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cube(count: int, random: np.random.Generator) -> np.ndarray:
    """Points (count, 3) uniform on the faces of [-1, 1]³."""
    x, axis = random.uniform(-1, 1, (count, 3)), random.integers(3, size=count)
    x[np.arange(count), axis] = random.choice([-1, 1], count)
    return x


def clouds() -> Iterator[tuple[str, PointCloud, list[str]]]:
    """Name, cloud and keys of each case."""
    random = np.random.default_rng(0)
    data, normals = ROOT / "data", ["network.has_normals = true"]
    yield "2D sample", load_point_cloud(data / "two_shapes_2d.xyz"), []
    yield "bunny", load_point_cloud(data / "bunny.xyz"), []
    yield "torus with normals", load_point_cloud(data / "torus_normals.ply"), normals
    ball = sphere(3000, random)
    yield "inward normals", point_cloud(ball, -ball), normals
    yield "noisy cube with creases", point_cloud(cube(5000, random) + random.normal(0, 0.008, (5000, 3))), []
    bowl = sphere(20_000, random)
    bowl = bowl[bowl[:, 2] < 0.2]
    bowl *= np.where(random.random(len(bowl)) < 0.5, 1.0, 0.97)[:, None]
    yield "bowl with a thin wall", point_cloud(bowl), []
    cut = sphere(6000, random) * [1, 0.8, 0.6]
    cut = cut[cut[:, 0] < 0.55]
    yield "ellipsoid with a hole", point_cloud(cut + random.normal(0, 0.002, cut.shape)), []
    yield "outliers", point_cloud(np.concatenate([sphere(3000, random), random.uniform(-3, 3, (10, 3))])), []
    few = sphere(600, random) * [1, 0.7, 0.5] + random.normal(0, 0.01, (600, 3))
    yield "few noisy points", point_cloud(few), []
    much = sphere(8000, random) * [1, 0.7, 0.5] + random.normal(0, 0.03, (8000, 3))
    yield "much noise", point_cloud(much), []
    published = [f"train.{key} = false" for key in PUBLISHED]
    yield "as published", point_cloud(sphere(2000, random)), [*published, "train.start = network"]
    angle = np.linspace(0, 5.2, 800)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1) + random.normal(0, 0.01, (800, 2))
    yield "2D noisy arc", point_cloud(arc), []


def feed(digest: Any, value: Any) -> None:
    """Add a value to a hash: arrays by shape, type and bytes, records by their fields."""
    if isinstance(value, np.ndarray):
        digest.update(str((value.shape, value.dtype)).encode() + np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value):
        for item in fields(value):
            feed(digest, getattr(value, item.name))
    else:
        digest.update(repr(value).encode())


def fingerprint(scene: Scene) -> str:
    """The hash of all that the training takes from a scene."""
    digest, surface = hashlib.sha256(), scene.coarse_surface
    for value in (scene.domain, scene.points, scene.normals, scene.scale, scene.dropped, scene.outward, scene.extents):
        feed(digest, value)
    for value in () if surface is None else (surface.places, surface.distances, surface.surface):
        feed(digest, value)
    return digest.hexdigest()[:16]


def main() -> None:
    """Print a line a cloud."""
    for name, cloud, keys in clouds():
        scene = prepare(override(Config().to_dict(), keys), cloud)
        counts = ", ".join(f"{scene.points.count(source)} {source.name.lower()}" for source in Source)
        print(f"{fingerprint(scene)}  {name}: {counts}", flush=True)


if __name__ == "__main__":
    main()
