"""What the commands do alike: one line for a mistake, and the exit status."""

import errno
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from phase_recon.reconstruction.commands import Parser, exit_status, whole_numbers
from phase_recon.utils.errors import UserError

COMMANDS = ["run", "compare", "benchmark", "poisson", "bench_step", "bench_detail", "bench_start", "bench_jobs"]


def ended(command, *flags: str) -> int:
    parser = Parser()
    parser.add_argument("--debug", action="store_true")
    return exit_status(parser, list(flags), command, "stopped, with nothing lost")


def raising(error: BaseException):
    def command(options) -> int:
        raise error

    return command


def test_the_status_is_the_command_s_own(capsys):
    assert [ended(lambda options, status=status: status) for status in (0, 130, None)] == [0, 130, 0]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("a.ply: empty"), 2, "error: a.ply: empty\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), 2,
         "error: aaa: File name too long; choose a shorter one\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/home/x/a.ply"), 2,
         "error: /home/x/a.ply: Permission denied; choose another, or mend that\n"),
        (KeyboardInterrupt(), 130, "stopped, with nothing lost\n"),
    ],
)  # fmt: skip
def test_what_ends_a_command_is_said_in_a_line_but_for_debug(error, status, said, capsys):
    assert ended(raising(error)) == status
    assert capsys.readouterr().err == said
    for flag in ("--debug", "--deb"):  # argparse takes beginnings
        with pytest.raises(type(error)):
            ended(raising(error), flag)


def test_sigterm_ends_a_command_as_ctrl_c_does_but_for_the_status(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def command(options) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        return 0

    assert ended(command) == 143
    assert capsys.readouterr().err == "stopped, with nothing lost\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("a mistake of ours")])
def test_other_errors_are_left_as_they_are(error):
    with pytest.raises(type(error)):
        ended(raising(error))


def test_whole_numbers():
    assert whole_numbers("--seeds", 0, "0,12,3") == [0, 12, 3]


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1.5", "2,0"])
def test_what_is_no_list_of_whole_numbers_is_refused(text):
    with pytest.raises(UserError) as refused:
        whole_numbers("--jobs", 1, text)
    assert str(refused.value) == (
        f"--jobs {text!r}: expected whole numbers from 1 on, separated by commas, such as 1,2"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_in_a_line_what_is_wrong_with_its_flags(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--nonsense"])
    assert import_module(f"phase_recon.reconstruction.{name}").main() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith("; --help lists what there is\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("benchmark", ["{folder}", "--seeds", "0,x"],
         "error: --seeds '0,x': expected whole numbers from 0 on, separated by commas, such as 1,2\n"),
        ("benchmark", ["{folder}", "--minutes", "x"],
         "error: --minutes: expected a number, got 'x'; --help lists what there is\n"),
        ("bench_jobs", ["--jobs", "0"],
         "error: --jobs '0': expected whole numbers from 1 on, separated by commas, such as 1,2\n"),
        ("bench_jobs", ["--cloud", "{folder}/none.xyz"],
         "error: {folder}/none.xyz: no such file; --cloud names a point cloud\n"),
        ("poisson", ["{folder}/none.xyz", "{folder}/mesh.ply"], "error: {folder}/none.xyz: no such file"),
    ],
)  # fmt: skip
def test_wrong_values_are_said_in_a_line(name, flags, said, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "scan.ply").touch()
    (tmp_path / "scan_gt.ply").touch()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *(flag.format(folder=tmp_path) for flag in flags)])
    assert import_module(f"phase_recon.reconstruction.{name}").main() == 2
    assert capsys.readouterr().err.startswith(said.format(folder=tmp_path))


def test_clouds_per_hour_of_a_cloud_that_cannot_be_read(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "empty.xyz").touch()
    monkeypatch.setattr(sys, "argv", ["bench_jobs.py", "--cloud", str(tmp_path / "empty.xyz"), "--clouds", "1"])
    assert import_module("phase_recon.reconstruction.bench_jobs").main() == 2
    assert capsys.readouterr().err.rstrip().endswith("empty0.xyz is empty: expected points")


FULL = [
    (MemoryError(), "the machine's is full"),
    (torch.OutOfMemoryError("CUDA out of memory.\nTried to get 3 GiB"), "CUDA out of memory. Tried to get 3 GiB"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize(("error", "what"), FULL)
def test_too_little_memory_is_said_in_a_line(error, what, capsys):
    assert ended(raising(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: out of memory ({what}): read fewer points (train.voxel), or lower plot.resolution")
    assert said.count("\n") == 1


def test_a_reader_that_has_ended_ends_the_command_quietly(tmp_path):
    """As in ``phase-recon … | head -1``."""
    code = (
        "import phase_recon.reconstruction.commands as c, sys\n"
        "def say(options):\n    for i in range(100000): print(i)\n"
        "sys.exit(c.exit_status(c.Parser(), [], say, 'stopped'))"
    )
    path = {**os.environ, "PYTHONPATH": str(ROOT / "code")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=path, **pipes) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait() == 1
