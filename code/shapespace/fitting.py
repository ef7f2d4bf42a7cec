"""A code for a cloud that the space has not seen: the network stays, the code moves (Gropp et al. 2020, sec. 5.2).

Where the cloud shows all of a shape, a copy of the network can then be trained on it: the space is its start.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.batch import together
from phase_recon.model.latent import CodedNet
from phase_recon.model.loss.base import Loss
from phase_recon.model.optimizer import Adam, Optimizers
from phase_recon.model.sampling import Sampler
from phase_recon.model.schedule import Cosine
from phase_recon.reconstruction.build_model import in_bfloat16
from phase_recon.reconstruction.state import sampler_of
from phase_recon.shapespace.shapes import in_frame, prepare_shape
from phase_recon.shapespace.space import Space
from phase_recon.utils.errors import UserError
from phase_recon.utils.processor import subnormals_as_zero

PROBES = 512  # points of the cloud at which the codes of the training are compared
STARTS = 8  # codes from which a fit begins
STARTS_RATE = 3.0  # × the fit's rate: that of the first steps, so that they leave where they began
FIT_SHARE = 0.25  # × the shapes of a training step: a step of a fit has as many points; more brought it no nearer
LAST_RATE = 0.01  # × the rate at the start: that at the end
REFINING_RATE = 0.002  # at the start: that of a single shape


def sampler_for(space: Space, cloud: PointCloud, shapes: int) -> Sampler:
    """What draws the batches of a new cloud, in the space's frame, as large as those of some shapes of the training.

    Raises:
        UserError: it is of another dimension than the space, or lacks the normals that the space was trained with.
    """
    d = len(space.domain.lower)
    if cloud.points.shape[1] != d:
        raise UserError(f"the cloud is {cloud.points.shape[1]}D, but the space is {d}D: give one of the same kind")
    if space.config.network.has_normals and cloud.normals is None:
        raise UserError(
            "the cloud has no normals, but the space was trained with them: add --set network.has_normals=false"
        )
    scene = in_frame(prepare_shape(space.config, cloud), space.domain)
    single, t = space.config.single, space.config.train
    points, in_omega = shapes * t.points_batch, shapes * t.pts_in_omega
    single = replace(single, train=replace(single.train, points_batch=points, pts_in_omega=in_omega))
    return sampler_of(single, scene, space.loss, space.device, t.seed)


def nearest_codes(space: Space, points: Tensor, count: int) -> Tensor:
    """Those (count, latent_size) of the training's codes and their mean whose surfaces are nearest to points (N, d)."""
    some = points[:: max(1, len(points) // PROBES)]
    codes = torch.cat([space.codes.mean(0, keepdim=True), space.codes])
    with torch.no_grad():
        misfits = [space.loss.distance(space.network(some, code)).abs().mean() for code in codes]
    best = torch.stack(misfits).argsort()[:count]
    return codes[best]


def fit_code(space: Space, cloud: PointCloud, seed: int = 0) -> Tensor:
    """The code (latent_size,) whose shape fits a cloud, partial or noisy ones too.

    It minimises the loss that the space ended with, and the weight of its own length, over train.fit_steps steps of
    Adam. The first quarter of them moves several codes, from the best of the training's, as one alone may end with a
    limb in another place; the best of these goes on.

    Raises:
        UserError: as ``sampler_for``; or the code is no longer finite.
    """
    t = space.config.train
    loss, sampler = space.loss.at(1.0), sampler_for(space, cloud, max(1, round(FIT_SHARE * t.shapes_batch)))
    generator = torch.Generator(space.device).manual_seed(seed)
    starts = nearest_codes(space, sampler.points, STARTS)
    with subnormals_as_zero():
        early = t.fit_steps // 4
        codes = _moved(space, loss, sampler, starts, early, STARTS_RATE * t.fit_rate, generator)
        batch = sampler.draw(generator)
        with torch.no_grad():
            misfits = [torch.stack(list(loss(CodedNet(space.network, code), batch).values())).sum() for code in codes]
        best = codes[int(torch.stack(misfits).argmin())]
        code: Tensor = _moved(space, loss, sampler, best[None], t.fit_steps - early, t.fit_rate, generator)[0]
    if not bool(code.isfinite().all()):
        raise UserError("the fit of the code became NaN or infinite: lower train.fit_rate")
    return code


def _moved(
    space: Space, loss: Loss, sampler: Sampler, codes: Tensor, steps: int, initial: float, generator: torch.Generator
) -> Tensor:
    """The codes (n, latent_size) after some steps, each for itself; the rate falls to a hundredth of ``initial``."""
    codes = codes.clone().requires_grad_()
    optimizer, rate = Adam([codes], 0.0), Cosine(initial, LAST_RATE * initial)
    for step in range(steps):
        batch = together([sampler.draw(generator)] * len(codes))
        terms = loss(CodedNet(space.network, codes), batch)
        length = space.config.latent_lambda * torch.linalg.vector_norm(codes, dim=-1).mean()
        (codes.grad,) = torch.autograd.grad(torch.stack([*terms.values(), length]).sum(), [codes])
        optimizer.step(rate(step, step / steps))
    moved: Tensor = codes.detach()
    return moved


def refined(space: Space, code: Tensor, cloud: PointCloud, seed: int = 0) -> Space:
    """The space with a copy of its network that train.refine_steps steps have trained on one cloud, at its code.

    What the cloud does not show then is no longer what the space knows of it.

    Raises:
        UserError: as ``sampler_for``; or the network is no longer finite.
    """
    t = space.config.train
    sampler = sampler_for(space, cloud, t.shapes_batch)
    loss, network = space.loss.at(1.0), copy.deepcopy(space.network)
    half = in_bfloat16(space.config.single, space.device)
    optimizers = Optimizers(network, t.optimizer, t.weight_decay, t.clip_gradient, momentum=t.momentum, half=half)
    generator = torch.Generator(space.device).manual_seed(seed)
    rate = Cosine(REFINING_RATE, LAST_RATE * REFINING_RATE)
    with subnormals_as_zero():
        for step in range(t.refine_steps):
            terms = loss(CodedNet(network, code), sampler.draw(generator))
            optimizers.step(torch.stack(list(terms.values())).sum(), rate(step, step / t.refine_steps))
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise UserError("the network became NaN or infinite on this cloud: set train.refine_steps = 0")
    return replace(space, network=network)
