"""How fast a training step is, as a fraction of what this machine's matrix product can do.

    python code/reconstruction/bench_step.py --gpu auto --points 2048

For the default network and for 5 × 256 and 8 × 512, in one process: floating point operations of the layers per
second, by torch alone, compiled (train.compile), and with the backward pass in bfloat16 where the device has its
products (train.bfloat16), against those of a plain matrix product of the same widths in single precision, timed beside
them; and the share of the fastest step that is not the network (drawing points, the optimiser). On a GPU each is
recorded, as the steps of a training are, and the step that is not is timed too. Best of
several, as machines are shared.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

import numpy as np
import torch
from torch import Tensor

from phase_recon.model.kernels import CompiledKernels, Kernels
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.model.network import ImplicitNet
from phase_recon.model.optimizer import Optimizers
from phase_recon.model.sampling import OmegaDensity, Sampler
from phase_recon.reconstruction.commands import Parser, common_flag, exit_status
from phase_recon.utils.distributed import Repeated, choose_device, multiplies_bfloat16, wait_for
from phase_recon.utils.errors import UserError
from phase_recon.utils.processor import keep_freed_memory, subnormals_as_zero

NETWORKS: dict[str, tuple[list[int], list[int], bool]] = {
    "4 x 128, Fourier features (default)": ([128] * 4, [], True),
    "5 x 256": ([256] * 5, [], False),
    "8 x 512, skip": ([512] * 8, [4], False),
}
WARM = Repeated.WARM_UP + 1  # runs that are not counted


def fastest(
    device: torch.device, generator: torch.Generator, work: Callable[[], object], rounds: int, recorded: bool = True
) -> float:
    """Seconds of the fastest of several runs of work on a device, which is recorded where that is possible."""
    repeated, times = Repeated(work, device, generator, recorded), []
    for _ in range(WARM + rounds):
        wait_for(device)
        start = time.perf_counter()
        repeated(())
        wait_for(device)
        times.append(time.perf_counter() - start)
    return min(times[WARM:])


def operations(network: ImplicitNet, points: int) -> float:
    """Floating point operations of a step's matrix products, for so many points of the data and in Ω, each.

    A product of the layers counts two per weight and point; value and gradient are two, and their backward pass four.
    """
    weights = sum(layer.weight.numel() for layer in network.layers())
    return 2.0 * weights * 2 * points * 6


def measure(
    network: ImplicitNet,
    sampler: Sampler,
    generator: torch.Generator,
    ways: dict[str, Kernels],
    best: Callable[..., float],
) -> str:
    """What is printed of a network; its steps are done in each of the ways, the last of which counts."""
    loss, batch = PhaseLoss(), sampler.draw(generator)
    optimizers = Optimizers(network, "muon", half=multiplies_bfloat16(batch.omega.device))
    width, points = network.layers()[1].in_features, len(batch.omega)
    rounds = 10 if width < 512 else 4

    def total() -> Tensor:
        return torch.stack(list(loss(network, batch).values())).sum()

    def descend() -> None:
        network.zero_grad()
        total().backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        optimizers.step(total(), 1e-4)

    a, b = (torch.randn(rows, width, device=batch.omega.device) for rows in (points, width))
    peak = 2.0 * points * width**2 / best(lambda: a @ b, 50)
    shares = []
    for way, network.kernels in ways.items():
        gradients = best(descend, rounds)
        shares.append(f"{operations(network, points) / gradients / peak:.0%} {way}")
    draw = best(lambda: sampler.draw(generator), rounds)
    whole, other = best(step, rounds) + draw, best(lambda: optimizers.move(1e-4), rounds) + draw
    text = (
        f"step {1e3 * whole:.3g} ms, {2 * points / whole:,.0f} points/s; of the product's {peak / 1e9:.0f} GFLOP/s: "
        f"{', '.join(shares)}; drawing and optimiser {other / whole:.0%} of the step"
    )
    if batch.omega.device.type != "cpu":
        slow = best(step, rounds, recorded=False) + best(lambda: sampler.draw(generator), rounds, recorded=False)
        text += f"; not recorded: step {1e3 * slow:.3g} ms"
    return text


@subnormals_as_zero()
def bench(gpu: str, points: int) -> None:
    """Print a line per network.

    Raises:
        UserError: no such GPU, no points, or kernels that cannot be compiled.
    """
    if points < 1:
        raise UserError(f"--points {points}: expected 1 or more")
    keep_freed_memory()
    device, said = choose_device(gpu)
    print(said)
    generator = torch.Generator(device).manual_seed(0)
    sphere = np.random.default_rng(0).standard_normal((20000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    density = OmegaDensity(sphere, np.full(3, -1.5), np.full(3, 1.5), 0.5, 0.1).to(device)
    cloud = torch.tensor(sphere, dtype=torch.float32, device=device)
    sampler = Sampler(cloud, None, density, points, 1, 0.0, points)
    best = partial(fastest, device, generator)
    ways, compiled = {"by torch alone": Kernels()}, device.type == "cpu"
    if compiled:
        ways["compiled"] = CompiledKernels()
    if multiplies_bfloat16(device):
        ways["in bfloat16"] = CompiledKernels(half=True) if compiled else Kernels(half=True)
    for name, (dims, skip_in, features) in NETWORKS.items():
        torch.manual_seed(0)
        network = ImplicitNet(3, dims, skip_in, use_FFM=features).to(device)
        print(f"{name}: {measure(network, sampler, generator, ways, best)}")


def main() -> int:
    """Read the flags and print the lines; returns the exit status."""
    parser = Parser("[--gpu WHICH] [--points N]", __doc__, script="bench_step.py")
    common_flag(parser, "gpu", default="cpu", help="auto, cpu or the number of a GPU (cpu)")
    parser.add_argument(
        "--points", metavar="N", type=int, default=2048, help="points of the data and in Ω, each (2048)"
    )
    return exit_status(parser, None, lambda options: bench(options.gpu, options.points), "stopped")


if __name__ == "__main__":
    sys.exit(main())
