"""A space-filling curve, and points and rows without repeats."""

import numpy as np
import pytest

from phase_recon.utils.arrays import along_curve, different, unique_rows


@pytest.mark.parametrize("d", [2, 3])
def test_the_curve_goes_through_a_grid_block_by_block(d):
    """Of 4^d cells, each block of 2^d after the other: by the bits of their numbers, interleaved."""
    cells = np.indices((4,) * d).reshape(d, -1).T
    shuffled = np.random.default_rng(0).permutation(len(cells))
    order = shuffled[along_curve(cells[shuffled])]
    code = [sum((int(x) >> bit & 1) << (bit * d + axis) for bit in range(2) for axis, x in enumerate(c)) for c in cells]
    assert order.tolist() == np.argsort(code).tolist()


def test_the_curve_takes_points_anywhere():
    assert along_curve(np.zeros((3, 2))).tolist() == [0, 1, 2]
    far = 1e9 + np.random.default_rng(0).random((1000, 3)).astype(np.float64)
    steps = np.linalg.norm(np.diff(far[along_curve(far)], axis=0), axis=1)
    assert sorted(along_curve(far)) == list(range(1000))
    assert steps.mean() < 0.15  # by chance 0.66


@pytest.mark.parametrize("where", [0.0, 5e6])
def test_different_points_are_each_kept_once_far_off_the_origin_too(where):
    points = where + np.random.default_rng(0).random((100_000, 3))
    np.testing.assert_array_equal(different(np.concatenate([points, points[:7]])), points)


@pytest.mark.parametrize("columns", [1, 3, 6])
def test_unique_rows_are_those_of_numpy(columns):
    rows = np.random.default_rng(columns).integers(-2, 3, (200, columns)) / 2.0
    rows[0] = -0.0  # equal to 0.0
    first, kind = unique_rows(rows)
    _, wanted_first, wanted_kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first, wanted_first)
    np.testing.assert_array_equal(kind, wanted_kind.ravel())
