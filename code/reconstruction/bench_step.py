"""How fast a training step is, as a fraction of what this machine's matrix product can do.

    python code/reconstruction/bench_step.py

For the default network and for 5 × 256 and 8 × 512, in one process: floating point operations of the layers per
second, by torch alone, compiled (train.compile), and with the backward pass in bfloat16 where the processor has its
products (train.bfloat16), against those of a plain matrix product of the same widths in single precision, timed beside
them; and the share of the fastest step that is not the network (drawing points, the optimiser). Best of several, as
machines are shared.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from model.kernels import CompiledKernels, Kernels
from model.loss.phase import PhaseLoss
from model.network import ImplicitNet
from model.optimizer import Optimizers
from model.sample import OmegaDensity, Sampler
from utils.distributed import keep_freed_memory, multiplies_bfloat16, subnormals_as_zero

NETWORKS: dict[str, tuple[list[int], list[int], bool]] = {
    "4 x 128, Fourier features (default)": ([128] * 4, [], True),
    "5 x 256": ([256] * 5, [], False),
    "8 x 512, skip": ([512] * 8, [4], False),
}
POINTS = 2048  # of the data and in Ω, each


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several runs, after one that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def operations(network: ImplicitNet) -> float:
    """Floating point operations of a step's matrix products.

    A product of the layers counts two per weight and point; value and gradient are two, and their backward pass four.
    """
    weights = sum(layer.weight.numel() for layer in network.layers())
    return 2.0 * weights * 2 * POINTS * 6


@subnormals_as_zero()
def main() -> None:
    """Print a line per network."""
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    sphere = np.random.default_rng(0).standard_normal((20000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    density = OmegaDensity(sphere, np.full(3, -1.5), np.full(3, 1.5), 0.5, 0.1)
    sampler = Sampler(torch.tensor(sphere, dtype=torch.float32), None, density, POINTS, 1, 0.0, POINTS)
    ways = {"by torch alone": Kernels(), "compiled": CompiledKernels()}
    if multiplies_bfloat16(torch.device("cpu")):
        ways["and in bfloat16"] = CompiledKernels(half=True)
    for name, (dims, skip_in, features) in NETWORKS.items():
        torch.manual_seed(0)
        network = ImplicitNet(3, dims, skip_in, use_FFM=features)
        optimizers, loss = Optimizers(network, "muon"), PhaseLoss()
        batch = sampler.draw(generator)

        def total() -> torch.Tensor:
            return torch.stack(list(loss(network, batch).values())).sum()  # noqa: B023

        a, b = torch.randn(POINTS, dims[0]), torch.randn(dims[0], dims[0])
        rounds = 10 if dims[0] < 512 else 4
        peak = 2.0 * POINTS * dims[0] ** 2 / best(lambda: a @ b, 50)  # noqa: B023
        rates = {}
        for way, kernels in ways.items():
            network.kernels = kernels
            gradients = best(lambda: total().backward(), rounds)  # type: ignore[no-untyped-call]
            rates[way] = operations(network) / gradients
        step = best(lambda: optimizers.step(total(), 1e-4), rounds)  # noqa: B023
        draw = best(lambda: sampler.draw(generator), rounds)
        shares = ", ".join(f"{rate / peak:.0%} {way}" for way, rate in rates.items())
        print(
            f"{name}: step {1e3 * (step + draw):.0f} ms, {2 * POINTS / (step + draw):,.0f} points/s; of the product's "
            f"{peak / 1e9:.0f} GFLOP/s: {shares}; drawing and optimiser "
            f"{(draw + max(0.0, step - gradients)) / (step + draw):.0%} of the step"
        )


if __name__ == "__main__":
    main()
