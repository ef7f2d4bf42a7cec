"""What a process may use within a container's limits: memory, of which cached files are given back, and processors."""

import os

import pytest

from phase_recon.utils import memory
from phase_recon.utils.memory import available_memory, processors


def lay(files, monkeypatch, tmp_path):
    """Have the memory's files read from a folder with these."""
    for name, text in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / str(name).lstrip("/"))


def test_cached_files_are_no_memory_in_use(monkeypatch, tmp_path):
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "/sys/fs/cgroup/memory.max": "5000000\n",
        "/sys/fs/cgroup/memory.current": "4900000\n",
        "/sys/fs/cgroup/memory.stat": "anon 900000\nactive_file 1000000\ninactive_file 2500000\n",
    }
    lay(files, monkeypatch, tmp_path)
    assert available_memory() == 5_000_000 - 4_900_000 + 3_500_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert available_memory() == 8000 << 10


@pytest.mark.parametrize(
    ("groups", "folder", "names"),
    [
        ("0::/job/step\n", "job", ("memory.max", "memory.current", "inactive_file")),
        ("9:name=systemd:/\n4:cpu,memory:/job/step\n0::/\n", "memory/job",
         ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)  # fmt: skip
def test_the_limit_of_a_job_holds_for_the_groups_below_it(monkeypatch, tmp_path, groups, folder, names):
    """As a batch system sets it: on the group of the job, above that of the process."""
    limit, used, cached = names
    files = {
        "/proc/meminfo": "MemAvailable:    8000 kB\n",
        "/proc/self/cgroup": groups,
        f"/sys/fs/cgroup/{folder}/{limit}": "5000000\n",
        f"/sys/fs/cgroup/{folder}/{used}": "3000000\n",
        f"/sys/fs/cgroup/{folder}/memory.stat": f"{cached} 500000\n",
    }
    lay(files, monkeypatch, tmp_path)
    assert available_memory() == 5_000_000 - 3_000_000 + 500_000


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),  # two and a half
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),  # more than it may run on
        ("0::/\n", {}, 8),
        ("0::/job/step\n", {"job/cpu.max": "100000 50000\n", "job/step/cpu.max": "max 100000\n"}, 2),
        ("3:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "20000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 1),
        ("3:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_processors_are_those_of_which_a_container_has_the_time(monkeypatch, tmp_path, groups, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    lay({"/proc/self/cgroup": groups} | {f"/sys/fs/cgroup/{name}": text for name, text in files.items()},
        monkeypatch, tmp_path)  # fmt: skip
    assert processors() == expected
