"""Make the sample clouds of this folder again, bit for bit.

    pip install pymeshfix==0.18.1      # carries the Stanford bunny as a mesh; nothing else of it is used
    python data/make_samples.py        # writes bunny.xyz, two_shapes_2d.xyz and its curves, torus_normals.ply

``--analytic`` leaves the bunny out and so needs numpy alone. README.md says where each cloud comes from.
"""

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FOLDER = Path(__file__).resolve().parent
BUNNY_SHA256 = "04ade0928afe3f307851bcb7fa932d6f9375d7dff8432615c8105828209deb3f"
BUNNY_POINTS = 20_000
TORUS_POINTS = 5_000
TORUS_RADII = (2.0, 0.7)  # of the circle at the heart of the tube, and of the tube


def sample_triangles(vertices: Array, faces: npt.NDArray[np.int64], n: int, seed: int) -> Array:
    """Draw n points uniformly by area from the triangles (F, 3) over vertices (V, 3): (n, 3).

    Only what the triangles cover is sampled: holes of the mesh stay holes of the cloud. The square root
    makes the draw uniform inside each triangle (Osada et al. 2002, Shape distributions, section 4.1).
    """
    rng = np.random.default_rng(seed)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    cumulative = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    # side="right" passes over triangles of no area, which the sampled mesh has
    pick = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    s, t = np.sqrt(rng.random((n, 1))), rng.random((n, 1))
    sampled: Array = (1 - s) * a[pick] + s * (1 - t) * b[pick] + s * t * c[pick]
    return sampled


def bunny() -> Array:
    """Sample the Stanford bunny, holes and all, from the mesh among pymeshfix's examples: (20000, 3)."""
    package = importlib.util.find_spec("pymeshfix")
    if package is None or package.origin is None:
        raise SystemExit("error: the bunny needs its mesh: pip install pymeshfix==0.18.1, or use --analytic")
    content = (Path(package.origin).parent / "examples" / "StanfordBunny.ply").read_bytes()
    if hashlib.sha256(content).hexdigest() != BUNNY_SHA256:
        raise SystemExit("error: StanfordBunny.ply is not that of pymeshfix 0.18.1: install that version")
    # the checksum fixes the layout: 50 000 vertices of three floats, then triangles behind a count byte each
    body = content[content.index(b"end_header\n") + len(b"end_header\n") :]
    vertices = np.frombuffer(body, "<f4", count=3 * 50_000).reshape(-1, 3)
    triangles = np.frombuffer(body, np.dtype([("n", "u1"), ("corners", "<i4", 3)]), offset=vertices.nbytes)
    return sample_triangles(
        vertices.astype(np.float64), triangles["corners"].astype(np.int64), BUNNY_POINTS, seed=0
    )


def star(t: Array) -> Array:
    """Evaluate the five-lobed star at angles t (n,): r = 1 + 0.3 cos 5t about (-1.2, 0), (n, 2)."""
    r = 1 + 0.3 * np.cos(5 * t)
    return np.stack([r * np.cos(t) - 1.2, r * np.sin(t)], axis=-1)


def disc(t: Array) -> Array:
    """Evaluate the circle of radius 0.7 about (1.1, 0.3) at angles t (n,): (n, 2)."""
    return np.stack([0.7 * np.cos(t) + 1.1, 0.7 * np.sin(t) + 0.3], axis=-1)


def two_shapes() -> Array:
    """Space points evenly along the star (700) and the circle of the disc (300): (1000, 2)."""
    fine = np.linspace(0, 2 * np.pi, 100_001)
    steps = np.linalg.norm(np.diff(star(fine), axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    even = np.interp(np.arange(700) / 700 * length[-1], length, fine)
    return np.concatenate([star(even), disc(np.arange(300) / 300 * 2 * np.pi)])


def two_curves() -> tuple[Array, npt.NDArray[np.int32]]:
    """Draw the star (1400 segments) and the circle (600), counter-clockwise: points (2000, 2), segments (2000, 2)."""
    parts = [(star, 1400), (disc, 600)]
    points = [shape(np.arange(n) / n * 2 * np.pi) for shape, n in parts]
    start = np.arange(2000)
    end = np.concatenate([np.roll(start[:1400], -1), np.roll(start[1400:], -1)])
    return np.concatenate(points), np.stack([start, end], axis=-1).astype(np.int32)


def torus(seed: int = 0) -> tuple[Array, Array]:
    """Draw points uniformly by area from the torus about z with TORUS_RADII: points and outward normals.

    The area element is proportional to R + r cos v at the tube's angle v: angles are kept with that
    probability.
    """
    big, small = TORUS_RADII
    rng = np.random.default_rng(seed)
    draws = rng.random((3 * TORUS_POINTS, 3))  # half of them are kept or more, whatever the radii
    v = 2 * np.pi * draws[:, 1]
    kept = np.flatnonzero(draws[:, 2] * (big + small) < big + small * np.cos(v))[:TORUS_POINTS]
    u, v = 2 * np.pi * draws[kept, 0], v[kept]
    normals = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], axis=-1)
    heart = np.stack([big * np.cos(u), big * np.sin(u), np.zeros_like(u)], axis=-1)
    return heart + small * normals, normals


def xyz_bytes(points: Array) -> bytes:
    """Write points (n, d) as text, six decimals."""
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in points.tolist()).encode()


def ply_bytes(points: Array, normals: Array) -> bytes:
    """Write points and normals (n, 3) as a binary PLY of single-precision numbers."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")] + ["end_header", ""]
    return "\n".join(header).encode() + np.concatenate([points, normals], axis=1).astype("<f4").tobytes()


def curve_bytes(points: Array, segments: npt.NDArray[np.int32]) -> bytes:
    """Write points (n, 2) and segments (m, 2) as a binary PLY with edges and z = 0, double precision."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property double {name}" for name in "xyz"]
    header += [f"element edge {len(segments)}", "property int vertex1", "property int vertex2", "end_header", ""]
    deep = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    return "\n".join(header).encode() + deep.astype("<f8").tobytes() + segments.astype("<i4").tobytes()


def main() -> None:
    """Write the clouds beside this script."""
    parser = argparse.ArgumentParser(description="Make the sample clouds of this folder again.")
    parser.add_argument("--analytic", action="store_true", help="leave out the bunny (needs pymeshfix)")
    samples = {
        "two_shapes_2d.xyz": xyz_bytes(two_shapes()),
        "two_shapes_2d_gt.ply": curve_bytes(*two_curves()),
        "torus_normals.ply": ply_bytes(*torus()),
    }
    if not parser.parse_args().analytic:
        samples["bunny.xyz"] = xyz_bytes(bunny())
    for name, content in samples.items():
        (FOLDER / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
