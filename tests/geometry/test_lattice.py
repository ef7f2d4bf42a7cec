"""Lattices and walls of a box."""

import numpy as np
import pytest

from phase_recon.geometry.lattice import lattice, walls


@pytest.mark.parametrize("d", [2, 3])
def test_the_lattice_of_a_box_and_its_walls(d):
    """3 nodes a side: all but the one in the middle lie on a wall."""
    upper = np.array([1.0, 2.0, 3.0])[:d]
    nodes, on_walls = lattice(-upper, upper, 3), walls(-upper, upper, 3)
    assert nodes.shape == (3**d, d)
    np.testing.assert_array_equal(nodes[0], -upper)
    np.testing.assert_array_equal(nodes[1], [*-upper[:-1], 0])
    assert len(on_walls) == 3**d - 1
    assert (np.abs(on_walls) == upper).any(axis=1).all()
