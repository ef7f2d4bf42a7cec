"""Colours of every type that files have, by hand."""

import numpy as np
import pytest

from phase_recon.utils.arrays import eight_bit


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("u1", [255, 0, 51], [255, 0, 51]),
        ("u2", [65535, 0, 13107], [255, 0, 51]),
        ("u2", [255, 0, 51], [255, 0, 51]),  # eight bits in sixteen
        ("f4", [1.0, 0.0, 0.2], [255, 0, 51]),
        ("f8", [255.0, 0.0, 51.0], [255, 0, 51]),
        ("f4", [1.0000001, -1e-8, 0.2], [255, 0, 51]),  # computed
    ],
)
def test_all_come_to_eight_bits(kind, given, expected):
    np.testing.assert_array_equal(eight_bit(np.array([given], dtype=float), [np.dtype(kind)] * 3), [expected])


@pytest.mark.parametrize(
    ("kind", "given"),
    [("f8", [300.5, 0, 0]), ("u4", [65536, 0, 0]), ("f4", [300, 0, 0]), ("f4", [-0.1, 0, 0]), ("u4", [256, 0, 0])],
)
def test_what_are_no_colours_are_none(kind, given):
    assert eight_bit(np.array([given], dtype=float), [np.dtype(kind)] * 3) is None
