"""Which patches of a sheet are the wrong way round: by neighbours, by what sees both, and how much of it is needed."""

import numpy as np
import pytest

from phase_recon.geometry.orientation import OrientationSettings, sheet_links
from phase_recon.geometry.patches import Pairs, PatchSettings, odd_patches, of_one_sheet, seen_together
from phase_recon.geometry.visibility import Space

S = PatchSettings()


def two_chains(conflicts, unsure):
    """Pairs within two chains of 30 and 20 points, and between the two: sure ones, and some of which nothing is known.

    All say that the sides are the same.
    """
    chains = [(k, k + 1) for k in range(49) if k != 29]
    between = [(k, 30 + k % 20) for k in range(conflicts + unsure)]
    first, second = np.array(chains + between).T
    same = np.append(np.ones(48 + conflicts), np.zeros(unsure))
    return Pairs(first, second, same, np.arange(50), share=0.75)


@pytest.mark.parametrize(
    ("conflicts", "unsure", "joined"), [(10, 0, True), (9, 0, False), (12, 4, True), (12, 5, False)]
)
def test_the_smaller_of_two_patches_is_odd_if_most_pairs_between_them_say_so(conflicts, unsure, joined):
    """At least 10 pairs, and 3/4 of all: 12 of 16 are enough, 12 of 17 are not."""
    votes = np.where(np.arange(50) < 30, -1.0, 1.0)
    expected = (np.arange(50) >= 30) if joined else np.zeros(50, dtype=bool)
    for sign in (1, -1):
        np.testing.assert_array_equal(odd_patches(two_chains(conflicts, unsure), sign * votes, S), expected)


def test_the_larger_patch_is_the_one_with_more_votes():
    votes = np.where(np.arange(50) < 30, -0.1, 1.0)  # 3 against 20
    np.testing.assert_array_equal(odd_patches(two_chains(20, 0), votes, S), np.arange(50) < 30)


def test_nothing_is_odd_where_all_votes_agree():
    assert not odd_patches(two_chains(20, 0), np.full(50, -1.0), S).any()


def test_a_point_goes_with_the_one_that_stands_for_it():
    pairs = two_chains(10, 0)
    standing = np.concatenate([np.arange(50), [0, 49, 49]])
    votes = np.where(np.append(np.arange(50) < 30, [False] * 3), -1.0, 1.0)
    odd = odd_patches(Pairs(pairs.first, pairs.second, pairs.same, standing, 0.75), votes, S)
    assert odd[50:].tolist() == [False, True, True]


def test_three_patches_in_a_row_are_made_one():
    """The middle one is odd, as both others, which agree, are larger together."""
    first = np.repeat(np.arange(0, 119), 1)
    pairs = np.stack([first, first + 1], axis=1)
    across = np.array([(a - 10 + k, a + k) for a in (40, 80) for k in range(10)])  # ten pairs over each border
    first, second = np.concatenate([pairs[(pairs[:, 0] != 39) & (pairs[:, 0] != 79)], across]).T
    votes = np.where((np.arange(120) >= 40) & (np.arange(120) < 80), -1.0, 1.0)
    odd = odd_patches(Pairs(first, second, np.ones(len(first)), np.arange(120), 0.75), votes, S)
    np.testing.assert_array_equal(odd, votes < 0)


def test_neighbours_on_a_plane_have_the_side_of_their_normals():
    x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 20))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(400)], axis=-1)
    sign = np.where(np.random.default_rng(0).random(400) < 0.5, -1.0, 1.0)
    links = sheet_links(points, sign[:, None] * [0.0, 0.0, 1.0], np.zeros((400, 3)), OrientationSettings())
    pairs = of_one_sheet(links, S)
    np.testing.assert_array_equal(np.sign(pairs.same), sign[pairs.first] * sign[pairs.second])
    odd = odd_patches(pairs, np.where(x.ravel() < 0.3, -1.0, 1.0) * sign, S)
    np.testing.assert_array_equal(odd, x.ravel() < 0.3)


@pytest.mark.parametrize("d", [2, 3])
def test_what_sees_two_points_of_a_ball_is_outside_of_both(d):
    """Pairs of normals that point outward or inward by chance: the same side where both do the same."""
    points = np.random.default_rng(0).standard_normal((10_000, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sign = np.where(np.random.default_rng(1).random(10_000) < 0.5, -1.0, 1.0)
    pairs = seen_together(Space(points), points, sign[:, None] * points, np.zeros_like(points), S)
    assert len(pairs.first) == S.compared * S.companions
    assert (np.abs(pairs.same) > S.sure).mean() > 0.99
    sure = np.abs(pairs.same) > S.sure
    np.testing.assert_array_equal(np.sign(pairs.same)[sure], (sign[pairs.first] * sign[pairs.second])[sure])


def test_nothing_sees_both_sides_of_a_plate():
    """Two planes 0.1 apart, 12 spacings: of points over each other, no ray gets out from both."""
    flat = np.random.default_rng(0).random((20_000, 3)) * [1.0, 1.0, 0.1]
    above = np.arange(20_000) % 2 == 0
    flat[:, 2] = np.where(above, 0.1, 0.0)
    outward = np.where(above[:, None], 1.0, -1.0) * [0.0, 0.0, 1.0]
    pairs = seen_together(Space(flat), flat, outward, np.zeros_like(flat), S)
    across = above[pairs.first] != above[pairs.second]
    assert across.sum() == 0 or (np.abs(pairs.same[across]) < 0.01).all()
    assert (pairs.same[~across] > S.sure).mean() > 0.9
