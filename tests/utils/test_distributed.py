"""What is done again and again is done with the numbers of each time; where nothing is recorded, as it is."""

import pytest
import torch

from phase_recon.utils.distributed import Repeated, multiplies_bfloat16, wait_for

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


def test_nobody_waits_for_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("there is no GPU"))
    wait_for(CPU)
