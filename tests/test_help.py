"""Every command has help: the short usage, with the name that the user typed, then what it does."""

import sys
from importlib import import_module

import pytest

from conftest import ROOT

CODE = ROOT / "code"
FILES = sorted(
    path.relative_to(CODE) for path in CODE.glob("*/*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
)
SPACES = ("train", "eval", "interpolate", "bodies", "dfaust")  # the commands of a shape space


def help_of(monkeypatch, capsys, module: str, *typed: str) -> str:
    monkeypatch.setattr(sys, "argv", [*typed, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"phase_recon.{module}").main()
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_help_of_a_command_names_it_as_it_was_typed(path, monkeypatch, capsys):
    typed = f"code/{path.as_posix()}"
    said = help_of(monkeypatch, capsys, ".".join(path.with_suffix("").parts), typed)
    assert said.startswith(f"usage: python {typed} ")
    named = [word for line in said.splitlines() for word in line.split() if word.endswith(path.name)]
    assert set(named) == {typed}  # in its examples, too


@pytest.mark.parametrize("command", SPACES)
def test_so_does_that_of_each_command_of_a_shape_space(command, monkeypatch, capsys):
    said = help_of(monkeypatch, capsys, "shapespace.run", "code/shapespace/run.py", command)
    assert said.startswith(f"usage: python code/shapespace/run.py {command} ")
    said = help_of(monkeypatch, capsys, "shapespace.run", "phase-recon-shapespace", command)
    assert said.startswith(f"usage: phase-recon-shapespace {command} ")


def test_the_ends_of_an_interpolation_are_named_where_one_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["code/shapespace/run.py", "interpolate", "body_0000"])
    assert import_module("phase_recon.shapespace.run").main() == 2
    said = "error: the following arguments are required: B; --help lists what there is\n"
    assert capsys.readouterr().err == said
