"""The table of a command's parts: what calls what stands below it, and calls in a row share a line."""

import importlib
import sys

import pytest

from phase_recon.reconstruction.bench_start import PARTS, Stopwatch, main


def test_parts_stand_below_what_calls_them_and_repeated_calls_share_a_line():
    watch = Stopwatch()
    inner = watch.timed(lambda: None, "inner")

    def work(times):
        for _ in range(times):
            inner()
        return times

    assert watch.timed(work, "outer")(4) == 4
    assert [(part.name, part.depth, part.count) for part in watch.parts] == [
        ("outer", 0, 1),
        ("inner", 1, 1),  # the first call alone, as it may be slower
        ("inner", 1, 3),
    ]
    assert watch.parts[0].seconds >= sum(part.seconds for part in watch.parts[1:])
    assert str(watch.parts[2]).startswith("  inner × 3 ")


@pytest.mark.parametrize(("module", "name"), [part[:2] for part in PARTS])
def test_what_is_timed_is_there(module, name):
    assert hasattr(importlib.import_module(f"phase_recon.reconstruction.{module}"), name)


def test_a_call_that_fails_is_timed_too():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.timed(lambda: 1 / 0, "fails")()
    assert [(part.name, part.count) for part in watch.parts] == [("fails", 1)]


def test_wrong_flags_are_said_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_start.py", "--steps", "few"])
    assert main() == 2
    err = capsys.readouterr().err
    assert "--steps" in err
    assert err.count("\n") == 1
