"""Commands that are run once: what is remembered, what is done again, and what a failure says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from phase_recon.reconstruction import provenance, trials
from phase_recon.reconstruction.provenance import version_of_code
from phase_recon.reconstruction.trials import checksums, remembered, run_once, timed
from phase_recon.utils.errors import UserError


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Writes a mesh where it is told, a line of a count beside it for every time it is run."""
    path = tmp_path / "script.py"
    path.write_text(
        "import sys\nfrom pathlib import Path\n"
        "mesh, word = sys.argv[1:]\nPath(mesh).write_text(word)\n"
        "with Path('count').open('a') as file:\n    file.write(word + '\\n')\n"
        "print('run: somewhere')\n"
    )
    return path


def test_a_command_runs_once_until_it_or_its_file_changes(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cloud = tmp_path / "cloud.xyz"
    cloud.write_text("0 0\n")

    def run(word: str) -> str:
        row = run_once(tmp_path / "records", "ours", [sys.executable, str(script), "{mesh}", word], [cloud])
        assert row["seconds"] > 0
        assert row["megabytes"] > 1
        return Path(row["written"]["mesh"]).read_text()

    def count() -> list[str]:
        return (tmp_path / "count").read_text().split()

    assert (run("a"), run("a"), count()) == ("a", "a", ["a"])
    assert (run("b"), run("a"), count()) == ("b", "a", ["a", "b"])  # another request has a record of its own
    cloud.write_text("1 1\n")
    assert (run("a"), count()) == ("a", ["a", "b", "a"])
    for mesh in (tmp_path / "records").glob("*.ply"):
        mesh.unlink()
    assert (run("b"), run("a"), count()[3:]) == ("b", "a", ["b", "a"])  # a result that is gone is made again


def test_another_version_of_the_code_computes_anew(tmp_path, monkeypatch):
    assert remembered(tmp_path, "a", {}, lambda stem: {"v": 1}) == {"v": 1}
    monkeypatch.setattr(trials, "version_of_code", lambda module: "another")
    assert remembered(tmp_path, "a", {}, lambda stem: {"v": 2}) == {"v": 2}


def test_a_peer_s_record_is_of_its_own_code_and_ours_of_all(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(trials, "version_of_code", lambda module: str(asked.append(module)))
    monkeypatch.setattr(trials, "_run", lambda command, stem: {})
    run_once(tmp_path, "poisson8", [sys.executable, str(trials.PEER), "a.xyz", "{mesh}"], [])
    run_once(tmp_path, "ours", [sys.executable, str(trials.PEER.with_name("run.py"))], [])
    assert trials.PEER.is_file()
    assert asked == [trials.PEER, None]


def test_the_version_is_of_every_file_that_decides(tmp_path, monkeypatch):
    (tmp_path / "setup.conf").write_text("a = 1")
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    found = set()
    for name, text in (("room/a.py", "1"), ("room/a.py", "2"), ("room/k.c", "2"), ("setup.conf", "a = 2")):
        (tmp_path / name).write_text(text)
        found.add(version_of_code.__wrapped__())
    (tmp_path / "room" / "page.md").write_text("words")
    found.add(version_of_code.__wrapped__())
    assert len(found) == 4


def test_the_version_of_a_module_is_of_what_it_imports_at_any_depth(tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    files = {"peer.py": "import numpy\nfrom phase_recon.room import near\n", "room/far.py": "x = 1\n",
             "room/near.py": "def f():\n    import phase_recon.room.far\n", "room/other.py": "y = 1\n"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def version() -> str:
        return version_of_code.__wrapped__(tmp_path / "peer.py")

    before = version()
    (tmp_path / "room" / "other.py").write_text("y = 2\n")
    assert version() == before
    (tmp_path / "room" / "far.py").write_text("x = 2\n")
    assert version() != before


def test_what_run_py_says_it_wrote_is_found(tmp_path, monkeypatch):
    said = "device: CPU\nrun: /exps/a b\n\ncurve:    /exps/a b/surface.ply\nmetrics:  /exps/a b/metrics.json\n"
    monkeypatch.setattr(trials, "timed", lambda command: (0, said, 1.234, 5.0))
    row = run_once(tmp_path, "ours", ["run"], [])
    written = {"mesh": "/exps/a b/surface.ply", "metrics": "/exps/a b/metrics.json"}
    assert row == {"seconds": 1.23, "megabytes": 5.0, "written": written}


@pytest.mark.parametrize(
    ("status", "output", "reason"),
    [
        (2, "device: CPU\nerror: c: 2 problems\n  a: wrong\n  b: wrong\n", "c: 2 problems; a: wrong; b: wrong"),
        (1, "Traceback\n  line\nValueError: no\n", "ValueError: no"),
        (-9, "step 450: 30% done", "killed by SIGKILL: out of memory, or by hand"),
        (0, "\n\nmetrics: /m.json\n", "no mesh was written: leave plot.save_ply = true"),
    ],
)  # fmt: skip
def test_a_failure_gives_its_reason_and_is_tried_again(tmp_path, monkeypatch, status, output, reason):
    tries = []
    monkeypatch.setattr(trials, "timed", lambda command: tries.append(command) or (status, output, 1.0, 1.0))
    assert run_once(tmp_path, "ours", ["run"], []) == {"failed": reason}
    assert run_once(tmp_path, "ours", ["run"], []) == {"failed": reason}
    assert len(tries) == 2
    assert list(tmp_path.iterdir()) == []


def test_names_with_dots_keep_their_records_apart(tmp_path):
    for value in (1, 2):
        assert remembered(tmp_path, f"cloud-0.0{value}", {"a": 0}, lambda stem, v=value: {"v": v}) == {"v": value}
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert remembered(tmp_path, "cloud-0.01", {"a": 0}, lambda stem: {"v": "computed again"}) == {"v": 1}


def test_a_command_is_measured():
    code = "import time; block = b'x' * 50_000_000; time.sleep(0.05); print('said')"
    status, output, seconds, megabytes = timed([sys.executable, "-c", code])
    assert (status, output) == (0, "said\n")
    assert seconds >= 0.05
    assert megabytes > 50
    assert timed([sys.executable, "-c", "raise SystemExit(3)"])[0] == 3
    assert timed([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])[0] == -9
    assert "no_such_command" in timed(["no_such_command"])[1]


def test_windows_is_told_where_a_command_can_be_measured(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match=r"^compare and benchmark measure peak memory, .*: start them under WSL$"):
        timed(["anything"])


def test_the_memory_is_that_of_the_command_alone():
    block = b"x" * 500_000_000
    megabytes = timed([sys.executable, "-c", "print('small')"])[3]
    assert 1 < megabytes < 0.2 * len(block) / 1e6


def test_a_command_ends_where_its_measurement_is_interrupted(tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    command = f"from pathlib import Path; import time; Path({str(begun)!r}).touch(); time.sleep(2); "
    command += f"Path({str(ended)!r}).touch()"
    measure = "import sys; from phase_recon.reconstruction.trials import timed; "
    measure += f"timed([sys.executable, '-c', {command!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(2, signal.default_int_handler); {measure}"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "code")},
    )
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    time.sleep(2.2)
    assert not ended.exists()


def test_files_are_told_apart_by_their_content(tmp_path):
    (tmp_path / "a").write_bytes(b"123456789")
    assert checksums([tmp_path / "a"]) == {str(tmp_path / "a"): 0xCBF43926}  # the check value of CRC-32
    with pytest.raises(UserError, match=r"b: cannot be read \(No such file or directory\); check the path"):
        checksums([tmp_path / "b"])
