"""Bodies of nodes whose pieces and holes are counted by scipy and scikit-image."""

import numpy as np
import pytest
from scipy.ndimage import generate_binary_structure, label
from skimage.measure import euler_number

from phase_recon.model.grid import steps
from phase_recon.reconstruction.digital_topology import linking_nodes, links_nothing


def kept_back(before, after, order=None):
    """Which of the nodes of an image that change stay as they are."""
    shape = before.shape
    nodes = np.argwhere(np.ones(shape, dtype=bool))
    inner = np.zeros(shape, dtype=bool)
    inner[(slice(1, -1),) * before.ndim] = True  # the others lack neighbours
    changing = np.flatnonzero(((before != after) & inner).ravel())
    order = np.zeros(len(changing)) if order is None else order.ravel()[changing]
    left = np.zeros(before.size, dtype=bool)
    left[linking_nodes(nodes, before.ravel(), changing, order)] = True
    return left.reshape(shape)


def pieces(body, corners):
    """The number of the piece that each node is in; corners tell whether those that share one meet."""
    return label(body, generate_binary_structure(body.ndim, body.ndim if corners else 1))[0]


def plate(holes=()):
    body = np.zeros((16, 16, 9), dtype=bool)
    body[2:14, 2:14, 3:6] = True
    for x, y in holes:
        body[x : x + 3, y : y + 3] = False
    return body


@pytest.mark.parametrize("d", [2, 3])
def test_a_node_links_nothing_if_the_neighbours_that_it_comes_to_are_in_one_piece(d):
    random = np.random.default_rng(0)
    at = steps(d).any(axis=1)
    for share in (0.15, 0.5, 0.85):
        for own in (False, True):
            for _ in range(60):
                around = random.random((3,) * d) < share
                around[(1,) * d] = not own  # after its change it is of the side that it comes to
                side = around if not own else ~around
                side[(1,) * d] = False
                found = pieces(side, corners=own)
                touching = np.ones((3,) * d, dtype=bool) if own else generate_binary_structure(d, 1)
                expected = len(set(found[touching & side])) == 1
                # pieces that only corners of the block join are apart about the node, where these meet at faces
                if not own and d == 3:
                    corner = np.abs(np.indices((3,) * d) - 1).sum(axis=0) == 3
                    found = pieces(side & ~corner, corners=False)
                    expected = len(set(found[touching & side & ~corner])) == 1
                beside = around.ravel()[at][None]
                assert links_nothing(beside, np.array([own]), d)[0] == expected


def test_a_plate_gets_no_holes():
    before, after = plate(), plate([(4, 4), (9, 8)])
    left = kept_back(before, after)
    assert 0 < left.sum() < (before != after).sum()
    now = np.where(left, before, after)
    assert euler_number(now, 1) == euler_number(before, 1) == 1
    assert euler_number(after, 1) == -1


def test_holes_may_be_closed():
    assert not kept_back(plate([(4, 4), (9, 8)]), plate()).any()


def test_bodies_stay_apart_where_the_order_is_greatest_and_may_come_apart():
    before = np.zeros((20, 7, 7), dtype=bool)
    before[2:8, 2:5, 2:5] = before[12:18, 2:5, 2:5] = True
    after = before.copy()
    after[8:12, 3, 2:5] = True
    left = kept_back(before, after, np.broadcast_to(np.arange(20.0)[:, None, None], before.shape))
    assert np.argwhere(left).tolist() == [[11, 3, 2], [11, 3, 3], [11, 3, 4]]
    assert not kept_back(after, before).any()


def test_in_the_plane_what_comes_apart_links_the_other_side():
    before = np.zeros((7, 20), dtype=bool)
    before[2:5, 2:18] = True
    after = before.copy()
    after[2:5, 8:12] = False
    assert kept_back(before, after).any()


def test_a_body_moves_and_grows_as_it_is():
    before, after = np.zeros((2, 12, 12), dtype=bool)
    before[2:6, 2:6] = after[4:10, 3:9] = True
    assert not kept_back(before, after).any()


def test_a_bubble_is_no_part_of_anything():
    before = np.zeros((9, 9, 9), dtype=bool)
    before[1:4, 1:8, 1:8] = True
    after = before.copy()
    after[6, 4, 4] = True
    assert np.argwhere(kept_back(before, after)).tolist() == [[6, 4, 4]]


@pytest.mark.parametrize("shape", [(14, 14), (9, 9, 9)])
def test_what_is_apart_on_either_side_stays_apart(shape):
    random = np.random.default_rng(1)
    for _ in range(20):
        before, after = random.random((2, *shape)) < random.uniform(0.2, 0.8)
        now = np.where(kept_back(before, after), before, after)
        now[(before != after) & (np.pad(np.zeros(np.subtract(shape, 2), dtype=bool), 1, constant_values=True))] ^= True
        for side in (True, False):
            both = (before == side) & (now == side)
            old, new = (pieces(of == side, corners=not side)[both] for of in (before, now))
            together = np.unique(np.stack([new, old], axis=1), axis=0)
            assert len(np.unique(together[:, 0])) == len(together)  # no new piece holds nodes of two old ones
