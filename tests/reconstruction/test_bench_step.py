"""The benchmark of a step counts what a step multiplies, and says in one line what it was wrongly asked."""

import sys

import pytest

from phase_recon.model.network import ImplicitNet
from phase_recon.reconstruction.bench_step import main, operations


def test_operations_are_those_of_the_layers():
    """Layers of 3 × 8, 8 × 8 and 8 × 1 have 96 weights; 2 · 5 points; value and gradient are two, backward four."""
    assert operations(ImplicitNet(3, [8, 8], use_FFM=False), 5) == 96 * 10 * 2 * 6


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--gpu", "999"], "error: --gpu 999: this machine has "),
        (["--gpu", "best"], "error: --gpu best: expected auto, cpu, ignore or the number of a GPU"),
        (["--points", "0"], "error: --points 0: expected 1 or more"),
    ],
)
def test_wrong_flags_are_said_in_a_line(monkeypatch, capsys, flags, says):
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *flags])
    assert main() == 2
    err = capsys.readouterr().err
    assert err.startswith(says)
    assert err.count("\n") == 1
