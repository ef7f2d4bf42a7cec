"""Subnormal numbers: zero in the steps, and kept between them."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from phase_recon.utils.processor import subnormals_as_zero, subnormals_kept


def test_subnormal_numbers_count_as_zero_for_a_while():
    """1e-20² = 1e-40 is below 1.2e-38, from where float32 has no more full numbers."""
    small = torch.tensor([1e-20], dtype=torch.float32)
    with subnormals_as_zero():
        assert (small * small).item() == 0.0
    assert (small * small).item() == pytest.approx(1e-40, rel=1e-4)


def test_a_tree_of_points_that_share_the_coordinate_zero_is_built_between_the_steps():
    """Most of them do: the tree is split at the next number above 0, which is a subnormal."""
    points = np.zeros((100, 3))
    points[60:] = np.random.default_rng(0).random((40, 3))
    small = torch.tensor([1e-20], dtype=torch.float32)
    with subnormals_as_zero():
        with subnormals_kept():
            distance, _ = cKDTree(points).query(np.zeros((1, 3)))
        assert (small * small).item() == 0.0  # and the steps go on as before
    assert distance.tolist() == [0.0]
    with subnormals_kept():
        pass
    assert (small * small).item() == pytest.approx(1e-40, rel=1e-4)
