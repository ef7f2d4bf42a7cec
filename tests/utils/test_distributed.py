"""What is done again and again is done with the numbers of each time; where nothing is recorded, as it is."""

import sys
from types import SimpleNamespace

import pytest
import torch

from phase_recon.utils import distributed
from phase_recon.utils.distributed import Repeated, _freest_gpu, choose_device, multiplies_bfloat16, wait_for

CPU = torch.device("cpu")


@pytest.mark.parametrize("recorded", [True, False])
def test_on_the_cpu_work_is_done_as_it_is(recorded):
    seen = []

    def work(name: str, rate: float, weight: float) -> str:
        seen.append((rate, weight))
        return name

    repeated = Repeated(work, CPU, torch.Generator(), recorded)
    assert [repeated((name,), number, 2 * number) for name, number in (("a", 1.0), ("a", 2.0), ("b", 3.0))] == [*"aab"]
    assert seen == [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]
    assert all(type(number) is float for numbers in seen for number in numbers)


@pytest.mark.parametrize(("able", "wanted"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({}, False)])
def test_a_processor_that_multiplies_bfloat16_is_known_by_what_it_says(monkeypatch, able, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert multiplies_bfloat16(CPU) is wanted


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_multiply_bfloat16_from_ampere_on(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert multiplies_bfloat16(torch.device("cuda", 0)) is wanted


@pytest.mark.parametrize(
    ("seen", "count", "number"),
    [(None, 4, 1), ("0,2", 2, 0), ("2,1", 2, 1), ("3", 1, 0), ("GPU-c,GPU-b", 2, 1), ("", 0, 0), ("0,9,1", 1, 0)],
)
def test_the_freest_gpu_is_counted_among_those_that_torch_sees(monkeypatch, seen, count, number):
    memory = {0: 500.0, 1: 900.0, 2: 100.0, 3: 10.0}
    found = [SimpleNamespace(id=id_, uuid=f"GPU-{'abcd'[id_]}", memoryFree=free) for id_, free in memory.items()]
    monkeypatch.setitem(sys.modules, "GPUtil", SimpleNamespace(getGPUs=lambda: found))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert _freest_gpu() == number


def test_nobody_waits_for_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("there is no GPU"))
    wait_for(CPU)


@pytest.mark.parametrize(("given", "wanted"), [(None, 1), ("2", 2)])
def test_torch_has_no_more_threads_than_a_container_has_processors(monkeypatch, given, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:  # the user's own word counts
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(distributed, "processors", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert choose_device("cpu") == (CPU, f"device: CPU, threads: {wanted}")
    finally:
        torch.set_num_threads(before)
