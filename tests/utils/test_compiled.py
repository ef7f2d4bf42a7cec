"""C sources are compiled once, kept where nobody else writes, and what is wrong is said in one line."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from phase_recon.utils import compiled
from phase_recon.utils.compiled import load_compiled, openmp
from phase_recon.utils.errors import UserError


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PHASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "compiled").iterdir())


def compiler(folder: Path, script: str) -> str:
    """A compiler's command that is a shell script."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_the_second_load_does_not_compile(source, tmp_path, monkeypatch):
    assert load_compiled(source).answer() == 42
    (library,) = kept(tmp_path)
    assert library.stat().st_mode & 0o777 == library.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(compiled, "write_whole", lambda *arguments: pytest.fail("compiled again"))
    assert load_compiled(source).answer() == 42


def test_another_source_compiler_or_processor_is_another_library(source, tmp_path, monkeypatch):
    load_compiled(source)
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    load_compiled(source)
    monkeypatch.setenv("CC", "cc -DNOTHING")
    load_compiled(source)
    source.write_text("int answer(void) { return 43; }\n")
    assert load_compiled(source).answer() == 43
    assert len(kept(tmp_path)) == 4


def test_a_compiler_that_does_not_know_the_processor(source, tmp_path, monkeypatch):
    script = 'for word; do case $word in -march*) echo "unknown: $word" >&2; exit 1;; esac; done; exec cc "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    assert load_compiled(source).answer() == 42


def test_a_damaged_library_is_made_anew(source, tmp_path):
    load_compiled(source)
    (library,) = kept(tmp_path)
    library.unlink()  # it is loaded: what it was must stay as it is
    library.write_bytes(b"")
    library.chmod(0o700)
    assert load_compiled(source).answer() == 42


def test_processes_at_the_same_time(source, tmp_path):
    script = (
        "import sys; sys.path.insert(0, 'code'); from pathlib import Path\n"
        "from phase_recon.utils.compiled import load_compiled\n"
        f"sys.exit(load_compiled(Path({str(source)!r})).answer())"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(4)]
    assert [job.wait(60) for job in jobs] == [42] * 4
    assert len(kept(tmp_path)) == 1


# what can go wrong


def problem(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_compiled(source)
    return str(caught.value)


def test_no_compiler(source, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert problem(source) == "there is no C compiler (cc, gcc or clang); install one, or name it in CC"
    monkeypatch.setenv("CC", "nonsense -O2")
    assert problem(source) == "CC: there is no compiler nonsense; name another, or leave CC out"


def test_a_compiler_that_fails(source, tmp_path, monkeypatch):
    name = compiler(tmp_path, "echo 'out of paper' >&2; exit 3")
    monkeypatch.setenv("CC", name)
    assert problem(source) == f"{name} cannot compile answer.c (out of paper); name another compiler in CC"
    assert kept(tmp_path) == []


def test_a_compiler_that_makes_something_else(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler(tmp_path, 'for word; do case $word in *.so) echo no > "$word";; esac; done'))
    assert "cannot be loaded" in problem(source)
    assert problem(source).endswith("; set PHASE_CACHE to another folder")


def test_a_cache_that_cannot_be_written(source, tmp_path):
    (tmp_path / "cache").write_text("a file")
    text = problem(source)
    assert text.startswith(f"{tmp_path / 'cache'}: cannot be written (")
    assert text.endswith("; set PHASE_CACHE to a folder that can be")


def test_no_home(source, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PHASE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert problem(source).startswith("the cache: cannot be written (Could not determine home directory.)")


def test_a_folder_that_others_can_write_to_is_not_used(source, tmp_path, monkeypatch):
    load_compiled(source)
    folder = tmp_path / "cache" / "compiled"
    for mode in (0o777, 0o770, 0o702):
        folder.chmod(mode)
        assert problem(source) == (
            f"{folder}: others can write to it, and what is in it is run; set PHASE_CACHE to a folder of yours"
        )
    folder.chmod(0o755)
    load_compiled(source)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert "others can write to it" in problem(source)


def test_a_library_that_others_can_write_to_is_made_anew(source, tmp_path):
    load_compiled(source)
    (library,) = kept(tmp_path)
    library.unlink()
    library.write_bytes(b"a stranger's")
    library.chmod(0o777)
    assert load_compiled(source).answer() == 42
    assert library.stat().st_mode & 0o777 == 0o700


def test_the_cache_is_the_user_s(source, tmp_path, monkeypatch):
    monkeypatch.delenv("PHASE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    load_compiled(source)
    assert len(list((tmp_path / "caches" / "phase" / "compiled").iterdir())) == 1


# threads


@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="torch has no OpenMP")
def test_openmp_is_the_runtime_that_torch_uses():
    found = openmp()
    assert found is not None
    before = torch.get_num_threads()
    threads = ctypes.CFUNCTYPE(ctypes.c_int)(("omp_get_max_threads", ctypes.CDLL(None)))
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert threads() == count
    finally:
        torch.set_num_threads(before)


def test_without_openmp(monkeypatch):
    monkeypatch.setattr(compiled, "OPENMP", ("no_such_function",) * 3)
    assert openmp() is None


def test_nothing_is_compiled_before_a_run(source, tmp_path):
    imports = "import sys; sys.path.insert(0, 'code'); import phase_recon.model.network, "
    imports += "phase_recon.reconstruction.training"
    for command in (["-c", imports], ["code/reconstruction/run.py", "--help"]):
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert not (tmp_path / "cache").exists()


def test_a_compiler_that_cannot_be_read(source, monkeypatch):
    monkeypatch.setenv("CC", 'gcc "')
    with pytest.raises(UserError, match=r"CC: cannot be read \(No closing quotation\); give a command as in a shell"):
        load_compiled(source)
