"""About how long a run will take, said before it begins: the operations of its steps, and what a processor does in a
second.

Rough, as machines are: within a factor of two on those that it was measured on.
"""

import torch

from phase_recon.reconstruction.build_model import build_model
from phase_recon.reconstruction.detail import adds_detail, seconds_for
from phase_recon.reconstruction.scene import PreprocessSettings
from phase_recon.utils.config import LEAST_RESOLUTION, Config

# Measured with the default network: on two cores steps of 0.34 GFLOP took 10 to 18 ms, of 1.35 GFLOP 24 to 36 ms
PER_CORE = 40e9  # floating point operations a second of one core
PER_GPU = 2e12  # the same of a GPU, an H100 with a small network, which does not fill it
STEP, STEP_ON_GPU = 7e-3, 1e-3  # s of a step, however few its points: drawing, optimiser, starting the kernels
STARTING = 5.0  # s, imports and a small cloud
PREPARING = 40e-6  # s per point on two cores, up to 300 000 points
FINISHING, EXTRACTING = 6.0, 9.0  # s: pictures and measurements; the surface at a resolution of 256


def plan(config: Config, device: torch.device, shape: tuple[int, ...], done: int = 0) -> str:
    """What a run will do, and about how long it will take; the arguments are those of ``seconds_of_run``."""
    t = config.train
    length = f"{max(t.nepoch - done, 0):,} steps" if t.time_budget is None else "training"
    surface = "curve" if shape[1] == 2 else "surface"
    seconds = seconds_of_run(config, device, shape, done)
    time_needed = "" if seconds is None else f"; {in_words(seconds)} in all"
    resolution = config.plot.resolution or f"{LEAST_RESOLUTION} or finer, by the points"
    return f"plan: {length}, then the {surface} at resolution {resolution}{time_needed}"


def seconds_of_run(config: Config, device: torch.device, shape: tuple[int, ...], done: int = 0) -> float | None:
    """About how many seconds a run takes from its start to its end; None where the network is not known.

    Args:
        config: of the run; a time budget is its own answer.
        device: where it is trained.
        shape: (N, d), of the cloud.
        done: steps of an earlier process.
    """
    t = config.train
    if t.time_budget is not None:
        return 60 * t.time_budget
    points, d = shape
    with torch.device("meta"):
        model = build_model(config, d, [])
    if model is None:
        return None
    weights = sum(p.numel() for p in model[0].parameters() if p.ndim == 2)
    balls = t.points_batch * t.pts_per_ball if t.ball_sigma > 0 else 0
    # 2 operations per weight and point; value and gradient are two products, and their backward pass four
    operations = 2.0 * weights * (6 * (t.points_batch + t.pts_in_omega) + 3 * balls)
    cores = torch.get_num_threads()
    on_cpu = device.type == "cpu"
    step = STEP + operations / (PER_CORE * cores) if on_cpu else STEP_ON_GPU + operations / PER_GPU
    grid = EXTRACTING * ((config.plot.resolution or LEAST_RESOLUTION) / 256) ** 2 if d == 3 else 1.0
    detail = seconds_for(points) if adds_detail(config) else 0.0
    steps = max(t.nepoch - done, 0) * step
    return STARTING + PREPARING * min(points, PreprocessSettings.most_points) + steps + detail + grid + FINISHING


def in_words(seconds: float) -> str:
    """A time to the digits that it is worth: "about 40 s", "about 3 min", "about 2 h"."""
    if seconds < 90:
        return f"about {max(10 * round(seconds / 10), 10):.0f} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.0f} h"
