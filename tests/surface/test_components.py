"""Which components of a surface are kept."""

import numpy as np
import pytest
import trimesh

from phase_recon.surface.components import substantial_components
from phase_recon.surface.surface import Surface


def test_pieces_below_a_share_of_the_largest_are_left_out():
    big, small = (trimesh.creation.box(extents=(side,) * 3) for side in (1.0, 0.2))  # areas 6 and 0.24
    small.apply_translation([2, 0, 0])
    both = trimesh.util.concatenate([big, small])
    surface = Surface(np.asarray(both.vertices), np.asarray(both.faces, dtype=np.int64))
    kept, dropped = substantial_components(surface, 0.05)
    assert (dropped, kept.measure()) == (1, pytest.approx(6.0))
    everything, dropped = substantial_components(surface, 0.03)
    assert (dropped, everything.measure()) == (0, pytest.approx(6.24))


def test_large_pieces_that_the_cloud_does_not_show_are_left_out():
    big, bubble = trimesh.creation.icosphere(4, 1.0), trimesh.creation.icosphere(3, 0.5)
    points = big.vertices.copy()
    bubble.apply_translation([2, 0, 0])
    both = trimesh.util.concatenate([bubble, big])
    surface = Surface(np.asarray(both.vertices), np.asarray(both.faces, dtype=np.int64))
    kept, dropped = substantial_components(surface, 0.01, points)
    assert (dropped, kept.measure()) == (1, pytest.approx(big.area))
    for share, cloud in ((0.01, None), (0.0, points), (0.01, np.append(points, bubble.vertices[:1], axis=0))):
        assert substantial_components(surface, share, cloud)[1] == 0
    assert substantial_components(surface, 0.01, bubble.vertices + 9)[0].measure() == pytest.approx(big.area)


def test_a_blob_between_outliers_is_left_out_and_a_noisy_body_is_not():
    """Spheres of radius 1 and 0.3: of the second, 40 outliers lie about the place, or noise as thick as 0.03."""
    body, other = trimesh.creation.icosphere(5, 1.0), trimesh.creation.icosphere(4, 0.3)
    other.apply_translation([2, 0, 0])
    both = trimesh.util.concatenate([body, other])
    surface = Surface(np.asarray(both.vertices), np.asarray(both.faces, dtype=np.int64))
    rng = np.random.default_rng(0)
    outliers = np.array([2, 0, 0]) + rng.uniform(-0.5, 0.5, (40, 3))
    assert substantial_components(surface, 0.01, np.concatenate([body.vertices, outliers]))[1] == 1
    noisy = other.vertices + rng.normal(0, 0.03, other.vertices.shape)
    assert substantial_components(surface, 0.01, np.concatenate([body.vertices, noisy]))[1] == 0
    assert substantial_components(surface, 0.01, np.concatenate([body.vertices, noisy[::20]]))[1] == 0  # and sparse


def test_small_pieces_that_the_cloud_shows_are_kept():
    """Spheres of radius 1, 0.05 and 0.05: the cloud has 30 points on the second, as dense as on the first (12 000 on
    400 times the area), and two on the third.
    """
    parts = [trimesh.creation.icosphere(4, radius) for radius in (1.0, 0.05, 0.05)]
    for part, x in zip(parts, (0, 2, 3), strict=True):
        part.apply_translation([x, 0, 0])
    both = trimesh.util.concatenate(parts)
    surface = Surface(np.asarray(both.vertices), np.asarray(both.faces, dtype=np.int64))
    directions = np.random.default_rng(0).standard_normal((12_032, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    counts = (12_000, 30, 2)
    points = np.concatenate(
        [x + r * some for some, x, r in zip(np.split(directions, np.cumsum(counts)[:2]),
         np.array([[0, 0, 0], [2, 0, 0], [3, 0, 0]]), (1, 0.05, 0.05), strict=True)]
    )  # fmt: skip

    def left_out(cloud):
        kept, dropped = substantial_components(surface, 0.01, cloud)
        assert kept.components()[0] == 3 - dropped
        return dropped

    assert left_out(None) == left_out(points[:12_000]) == 2
    assert left_out(points) == 1
    assert left_out(np.delete(points, np.s_[12_000:12_011], axis=0)) == 2  # 19 are too few
    assert left_out(np.concatenate([points, points[:12_000], points[:12_000], points[:12_000]])) == 2  # or too thin
    far = points + np.where(np.arange(len(points)) < 12_000, 0, 0.3)[:, None]
    assert left_out(far) == 2
