"""The benchmark of the detail's solve prints a line a number of threads, and says what it was wrongly asked."""

import re

import pytest
import torch

from phase_recon.reconstruction import bench_detail
from phase_recon.reconstruction.detail_system import System


def test_there_is_something_to_solve_for(monkeypatch):
    """Of a field without error the solution would be zero, at once."""
    seen = []
    monkeypatch.setattr(bench_detail, "COPIED", 1 << 20)
    monkeypatch.setattr(System, "solution", lambda system: seen.append(abs(system.wanted).max()))
    list(bench_detail.lines(400))
    assert seen[0] > 0


def test_it_prints_what_is_solved_and_shares_of_the_copy(monkeypatch, capsys):
    monkeypatch.setattr(bench_detail, "COPIED", 1 << 20)
    monkeypatch.setattr(bench_detail, "ROUNDS", 1)
    assert bench_detail.main(["--points", "400"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"400 points, [\d,]+ nodes, \d+ MB of equations: made in \S+ s, solved in \S+ s", first)
    assert [line.split(" ")[0] for line in others] == [str(n) for n in sorted({1, torch.get_num_threads()})]
    assert all(re.search(r"products read \S+ GB/s, \d+% of the \S+ GB/s of a copy$", line) for line in others)


@pytest.mark.parametrize("points", ["99", "30001"])
def test_points_are_those_of_a_block(capsys, points):
    assert bench_detail.main(["--points", points]) == 2
    assert capsys.readouterr().err == f"error: --points {points}: expected 100 to 30000, the points of a block\n"
