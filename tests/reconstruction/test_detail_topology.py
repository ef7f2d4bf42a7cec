"""Details of a slab that are known by formula: one goes right through it, one does not."""

import numpy as np
import pytest
import torch
from skimage.measure import euler_number
from test_openings import Filled, ring_cloud, scene_of

from phase_recon.model.grid import SplineField, SplineGrid, keys_of, steps
from phase_recon.reconstruction import detail as of_detail
from phase_recon.reconstruction.detail import correction_of
from phase_recon.reconstruction.detail_topology import without_links

SPACING, HALF = 0.1, 0.25  # of the grid; half the thickness of the slab


class Slab:
    """The signed distance to a slab of half a thickness about z = 0 (2D: y = 0)."""

    def __init__(self, half=HALF):
        self.half = half

    def normalised(self, x):
        return x[:, -1].abs() - self.half


def grid_of(value, d=3):
    """A detail with coefficients value(places) wherever these are not zero."""
    nodes = steps(d, -10, 10)
    coefficients = value(nodes * SPACING).astype(np.float32)
    kept = coefficients != 0
    order = np.argsort(keys_of(nodes[kept]))
    return SplineField((SplineGrid(SPACING, nodes[kept][order], coefficients[kept][order]),))


def pit(depth):
    """A pit in the slab about the last axis, from above: beyond HALF in depth it goes right through."""

    def value(x):
        about = np.linalg.norm(x[:, :-1], axis=1) < 0.25
        deep = HALF - x[:, -1]
        return np.where(about & (np.abs(x[:, -1]) < 0.45) & (deep < depth), 0.6, 0.0)

    return value


def body(detail, d=3):
    """Which nodes of a fine grid are inside the slab with a detail, in a box that ends in the slab."""
    places = steps(d, -36, 36) * (SPACING / 4)
    x = torch.from_numpy(places.astype(np.float32))
    return ((Slab().normalised(x) + detail.value(x)) < 0).numpy().reshape((73,) * d)


@pytest.mark.parametrize("d", [2, 3])
def test_a_detail_through_a_slab_is_left_out_only_where_it_would_link_the_two_sides(d):
    through = grid_of(pit(1.0), d)
    left, places = without_links(Slab(), through)
    assert places > 0
    assert 0 < len(left.grids[0].nodes) < len(through.grids[0].nodes)
    kept = np.isin(keys_of(through.grids[0].nodes), keys_of(left.grids[0].nodes))
    np.testing.assert_array_equal(left.grids[0].coefficients, through.grids[0].coefficients[kept])
    whole = 1  # Euler number of a slab; with a hole right through it is 0, in 2D two pieces have 2
    assert euler_number(body(SplineField(()), d), 1) == euler_number(body(left, d), 1) == whole
    assert euler_number(body(through, d), 1) == (0 if d == 3 else 2)


def test_what_is_left_closed_is_where_the_slab_withstands_the_detail_the_longest():
    # strong up to the middle, nothing in the next layer, and weak in the uppermost of the slab and above
    strong = grid_of(lambda x: pit(1.0)(x) * np.select([x[:, -1] < 0.05, x[:, -1] < 0.15], [50.0, 0.0], 0.17))
    left = without_links(Slab(), strong)[0].grids[0].nodes
    lost = set(map(tuple, strong.grids[0].nodes)) - set(map(tuple, left))
    assert {z for *_, z in lost} == {0, 2, 3, 4}  # two rings about the layer of 2


def test_what_splines_do_beside_the_grid_counts():
    def above(x):
        wide = np.abs(x[:, :2]).max(axis=1) < 0.25
        return np.where(wide & (x[:, 2] > 0.05) & (x[:, 2] < 0.35), 1.0, 0.0)

    left, places = without_links(Slab(half=0.04), grid_of(above))  # only the nodes at z = 0 are inside
    assert places > 0
    x = torch.from_numpy((steps(3, -10, 10) * SPACING).astype(np.float32))
    inside = (Slab(half=0.04).normalised(x) + left.value(x) < 0).numpy().reshape(21, 21, 21)
    assert inside[:, :, 10].all()


def test_a_pit_stays_as_it_is():
    dent = grid_of(pit(0.25))
    assert (body(dent) != body(SplineField(()))).any()
    left, places = without_links(Slab(), dent)
    assert places == 0
    np.testing.assert_array_equal(left.grids[0].coefficients, dent.grids[0].coefficients)


def test_a_detail_that_changes_no_side_stays_as_it_is():
    nothing = grid_of(lambda x: np.full(len(x), 1e-4))
    left, places = without_links(Slab(), nothing)
    assert places == 0
    np.testing.assert_array_equal(left.grids[0].nodes, nothing.grids[0].nodes)


def test_of_a_detail_that_only_links_nothing_is_left():
    plug = grid_of(lambda x: np.where(np.linalg.norm(x, axis=1) < 0.05, 0.5, 0.0))
    assert len(plug.grids[0].nodes) == 1
    thin = Slab(half=0.04)  # of which only the nodes at z = 0 are inside
    left, places = without_links(thin, plug)
    assert (left, places) == (SplineField(()), 1)


def test_a_correction_of_which_nothing_is_left_is_none(monkeypatch):
    scene = scene_of(ring_cloud(hole=0.1))
    monkeypatch.setattr(of_detail, "choose_lambda", lambda *_: 1.0)
    monkeypatch.setattr(of_detail, "without_links", lambda field, detail: (SplineField(()), 1))
    assert correction_of(Filled(scene, hole=0.1), scene, lambda _: None) is None


def test_what_was_left_out_is_said(monkeypatch):
    scene = scene_of(ring_cloud(hole=0.1))
    said = []
    monkeypatch.setattr(of_detail, "choose_lambda", lambda *_: 1.0)
    monkeypatch.setattr(of_detail, "without_links", lambda field, detail: (detail, 1234))
    assert correction_of(Filled(scene, hole=0.1), scene, said.append) is not None
    assert said[-1] == "detail: left out about 1,234 nodes, where it would make handles, or join or begin bodies"
