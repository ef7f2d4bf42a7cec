"""How far places lie beyond a convex hull, by hand."""

import numpy as np
import pytest

from phase_recon.geometry import hull
from phase_recon.geometry.hull import beyond_hull, convex_hull
from phase_recon.geometry.lattice import lattice


@pytest.mark.parametrize("d", [2, 3])
def test_how_far_places_lie_beyond_a_convex_hull(d, monkeypatch):
    """That of a box's corners and some points within; one facet at a time gives the same."""
    corners = lattice(-np.ones(d), np.ones(d), 3)
    facets = convex_hull(corners)
    assert facets is not None
    axis, diagonal = np.eye(d)[0], np.ones(d)
    places = np.stack([0 * axis, 0.75 * axis, 1.5 * axis, diagonal, 1.5 * diagonal])
    np.testing.assert_allclose(beyond_hull(places, facets), [-1, -0.25, 0.5, 0, 0.5], atol=1e-12)
    monkeypatch.setattr(hull, "HULL_NUMBERS", 1)
    np.testing.assert_allclose(beyond_hull(places, facets), [-1, -0.25, 0.5, 0, 0.5], atol=1e-12)
    assert len(beyond_hull(places[:0], facets)) == 0
    assert convex_hull(corners * np.eye(d)[0]) is None  # on a line
