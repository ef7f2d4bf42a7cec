"""Memory that is free: within a container's limit, where what only caches files is given back."""

from phase_recon.utils import memory
from phase_recon.utils.memory import available_memory


def test_cached_files_are_no_memory_in_use(monkeypatch, tmp_path):
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "/sys/fs/cgroup/memory.max": "5000000\n",
        "/sys/fs/cgroup/memory.current": "4900000\n",
        "/sys/fs/cgroup/memory.stat": "anon 900000\nactive_file 1000000\ninactive_file 2500000\n",
    }
    for name, text in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / str(name).lstrip("/"))
    assert available_memory() == 5_000_000 - 4_900_000 + 3_500_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert available_memory() == 8000 << 10
