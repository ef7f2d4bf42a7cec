"""A family of shapes made by formulas: standing bodies whose limbs bend and grow, to learn and to test a space on.

A body is the smooth union of capsules: a trunk, a head, and arms and legs of two parts each. All stand on the same
place, z up, facing -y, and all have the topology of a sphere. No two of a seed are alike, and each is made on demand.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phase_recon.surface.extract import extract_surface
from phase_recon.surface.files import write_surface
from phase_recon.surface.metrics import sample_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import npz_of, write_whole

Array = npt.NDArray[np.float64]

BOX = 1.3  # half the side of the box in which a body is extracted
RESOLUTION = 128  # cells along that side
SHARPNESS = 60.0  # of the smooth union: parts melt over about 1 / 60
LEAST_SHAPES = 1


@dataclass(frozen=True)
class Body:
    """The proportions and the pose of a body; lengths in about 0.6 m, angles in degrees.

    Attributes:
        girth: of trunk and limbs, relative.
        arms: length of the arms, relative.
        legs: length of the legs, relative.
        raised: how far the left and the right arm are raised from hanging.
        elbows: how far each is bent forward.
        spread: how far each leg is spread outward.
        strides: how far each leg swings forward.
        knees: how far each is bent backward.
    """

    girth: float
    arms: float
    legs: float
    raised: tuple[float, float]
    elbows: tuple[float, float]
    spread: tuple[float, float]
    strides: tuple[float, float]
    knees: tuple[float, float]

    def distance(self, x: Tensor) -> Tensor:
        """About the signed distance (N,) at points (N, 3), negative inside; exact for a single part."""
        parts = [_capsule(x, *part) for part in self.parts()]
        return -torch.logsumexp(-SHARPNESS * torch.stack(parts), dim=0) / SHARPNESS

    def parts(self) -> list[tuple[Array, Array, float]]:
        """The capsules: both ends (3,) and the radius of each."""
        g = self.girth
        chest, pelvis = np.array([0.0, 0.0, 0.42]), np.array([0.0, 0.0, 0.02])
        head, crown = np.array([0.0, 0.0, 0.80]), np.array([0.0, 0.0, 0.85])
        parts = [(pelvis, chest, 0.15 * g), (chest, head, 0.055 * g), (head, crown, 0.11)]
        for side, raised, elbow, spread, stride, knee in zip(
            (1.0, -1.0), self.raised, self.elbows, self.spread, self.strides, self.knees, strict=True
        ):
            shoulder, hip = np.array([0.17 * side * g, 0.0, 0.48]), np.array([0.09 * side * g, 0.0, -0.04])
            arm = _turned(0.0, raised, side)
            forearm = np.cos(np.radians(elbow)) * arm + np.sin(np.radians(elbow)) * np.array([0.0, -1.0, 0.0])
            elbow_at = shoulder + 0.30 * self.arms * arm
            parts += [(shoulder, elbow_at, 0.055 * g), (elbow_at, elbow_at + 0.30 * self.arms * forearm, 0.045 * g)]
            knee_at = hip + 0.40 * self.legs * _turned(stride, spread, side)
            ankle = knee_at + 0.40 * self.legs * _turned(stride - knee, spread, side)
            parts += [(hip, knee_at, 0.075 * g), (knee_at, ankle, 0.055 * g)]
        return parts

    def surface(self, resolution: int = RESOLUTION) -> Surface:
        """The body's mesh."""
        corner = np.full(3, BOX)
        return extract_surface(self.distance, -corner, corner, resolution)


def body(index: int, seed: int = 0) -> Body:
    """The body of a number, 0 and up; each seed has other ones."""
    random = np.random.default_rng((seed, index))

    def pair(low: float, high: float) -> tuple[float, float]:
        left, right = random.uniform(low, high, 2)
        return float(left), float(right)

    girth, arms, legs = (float(random.uniform(*span)) for span in ((0.85, 1.15), (0.8, 1.2), (0.85, 1.15)))
    return Body(
        girth, arms, legs, pair(35, 120), pair(0, 80), pair(8, 22), pair(-15, 35), pair(0, 50)
    )


def cloud_of(body: Body, count: int, noise: float, seed: int) -> tuple[Array, Array]:
    """Points (count, 3) of a body's surface with Gaussian noise, and their exact normals (count, 3)."""
    surface = body.surface()
    points, _ = sample_surface(surface, count, seed)
    x = torch.from_numpy(points).requires_grad_()
    normals = torch.nn.functional.normalize(torch.autograd.grad(body.distance(x).sum(), x)[0], dim=-1).numpy()
    return points + noise * np.random.default_rng(seed).standard_normal(points.shape), normals


def write_bodies(folder: Path, train: int, test: int, count: int, noise: float, seed: int) -> int:
    """Write train/ and test/ with a cloud of each body, and truth/ with the meshes of those of the test.

    Returns:
        How many of the clouds were there, and are replaced.

    Raises:
        UserError: there are no shapes to write, or a file cannot be written.
    """
    if train < LEAST_SHAPES or count < 10:
        raise UserError(f"bodies: expected at least 1 for training and 10 points, got {train} and {count}")
    for flag, value in (("test", test), ("noise", noise), ("seed", seed)):
        if not 0 <= value < np.inf:
            raise UserError(f"--{flag}: expected 0 or more, got {value}")
    there = 0
    for place, first, last, kind in (
        ("train", 0, train, "npz"), ("test", train, train + test, "npz"), ("truth", train, train + test, "ply")
    ):  # fmt: skip
        own = {f"body_{index:04d}.{kind}" for index in range(first, last)}
        names = {file.name for file in (folder / place).glob("*")}
        if others := sorted(names - own):
            raise UserError(f"{folder / place}: holds other shapes, such as {others[0]}; give another --out")
        there += len(names) if kind == "npz" else 0
    for index in range(train + test):
        shape, name = body(index, seed), f"body_{index:04d}"
        part = folder / ("train" if index < train else "test")
        try:
            part.mkdir(parents=True, exist_ok=True)
            points, normals = cloud_of(shape, count, noise, index)
            write_whole(part / f"{name}.npz", npz_of(points=points, normals=normals))
            if index >= train:
                (folder / "truth").mkdir(exist_ok=True)
                write_surface(folder / "truth" / f"{name}.ply", shape.surface())
        except OSError as error:
            raise UserError(f"{part}: cannot be written ({error.strerror}); choose another --out") from None
    return there


def _turned(forward: float, outward: float, side: float) -> Array:
    """A unit vector (3,): straight down, swung forward and then outward to a side, in degrees."""
    f, o = np.radians(forward), np.radians(outward)
    return np.array([side * np.sin(o), -np.sin(f) * np.cos(o), -np.cos(f) * np.cos(o)])


def _capsule(x: Tensor, start: Array, end: Array, radius: float) -> Tensor:
    """The signed distance (N,) at points (N, 3) from a capsule between two ends (3,)."""
    a, axis = (torch.as_tensor(part, dtype=x.dtype, device=x.device) for part in (start, end - start))
    along = ((x - a) @ axis / (axis @ axis)).clamp(0, 1)
    distance: Tensor = torch.linalg.vector_norm(x - a - along.unsqueeze(-1) * axis, dim=-1) - radius
    return distance
