"""From a configuration to the network and the loss that it names, checked before any memory is taken."""

from inspect import signature

import torch

from phase_recon.model.base import Network
from phase_recon.model.kernels import CompiledKernels, Kernels
from phase_recon.model.loss.base import Loss
from phase_recon.model.network import ImplicitNet
from phase_recon.utils.build import build, find_class, name_of_loss
from phase_recon.utils.config import Config
from phase_recon.utils.distributed import multiplies_bfloat16
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import CONFIGURATIONS
from phase_recon.utils.memory import require_memory

OTHER_KEYS = "{1} has keys of its own: --set {0}=null --set '{0}={{ ... }}' replaces those of the file"
STEP_REMEDY = "lower points_batch, pts_per_ball, pts_in_omega or network.inputs.dims"


def build_model(
    config: Config, d: int, problems: list[str], latent_size: int = 0
) -> tuple[Network, Loss] | None:
    """The network and the loss that a configuration describes; what is wrong is appended to ``problems``.

    A network of many shapes takes latent codes of ``latent_size`` numbers.
    """
    kind = config.network.loss["type"]
    network = loss = None
    try:
        network_class = find_class(config.train.network_class)
        if not issubclass(network_class, Network):
            raise UserError(f"{config.train.network_class}: is no network; let the class extend model.base.Network")
        coded = {"latent_size": latent_size} if "latent_size" in signature(network_class).parameters else {}
        if latent_size and not coded:
            problems.append(
                f"train.network_class: {config.train.network_class} takes no latent code; set model.network.ImplicitNet"
            )
        before = len(problems)
        network = build(network_class, config.network.inputs, "network.inputs", problems, d_in=d, **coded)
        if len(problems) > before and network_class is not ImplicitNet:
            problems[-1] += f"; {OTHER_KEYS.format('network.inputs', config.train.network_class)}"
    except UserError as error:
        problems.append(f"train.network_class: {error}")
    try:
        loss_class = find_class(name_of_loss(kind))
        parameters = {key: value for key, value in config.network.loss.items() if key != "type"}
        given = {"output": config.network.output} if "output" in signature(loss_class).parameters else {}
        if config.network.output == "u" and not given:
            problems.append(f"network.output: only the phase loss can learn u; remove it for {kind}")
        before = len(problems)
        loss = build(loss_class, parameters, "network.loss", problems, **given)
        if len(problems) > before and (CONFIGURATIONS / f"{kind}.conf").is_file():
            problems[-1] += f"; {kind} has keys of its own: see --conf code/confs/{kind}.conf"
        elif len(problems) > before and kind != "phase":
            problems[-1] += f"; {OTHER_KEYS.format('network.loss', kind)}"
    except UserError as error:
        problems.append(f"network.loss.type: {error}")
    if loss is not None and loss.needs_normals and not config.network.has_normals:
        problems.append(
            f"network.has_normals: the {kind} loss needs normals; set it to true, with a cloud that has them"
        )
    if network is None or loss is None:
        return None
    if loss.needs_second_derivatives and not network.twice_differentiable:
        problems.append(
            f"network.loss.type: {kind} needs second derivatives, which the configured network does not have; set "
            "network.inputs.beta = 100, or train.network_class = model.siren.SirenNet"
        )
    return network, loss


def kernels_for(config: Config, device: torch.device, problems: list[str]) -> Kernels:
    """What computes between the matrix products of a configured ImplicitNet: compiled, and its backward pass in
    bfloat16, where that is wanted and of use. Why it is not compiled although it should be is appended to ``problems``.
    """
    if not issubclass(find_class(config.train.network_class), ImplicitNet):
        return Kernels()
    half = in_bfloat16(config, device)
    if config.train.compile and device.type == "cpu":
        try:
            return CompiledKernels(half)
        except UserError as problem:
            problems.append(str(problem))
    return Kernels(half)


def in_bfloat16(config: Config, device: torch.device) -> bool:
    """Whether a training multiplies in bfloat16: where that is wanted, and the device does it fast."""
    return config.train.bfloat16 and multiplies_bfloat16(device)


def check_model(config: Config, problems: list[str]) -> None:
    """Append what is wrong with the configured network and loss; nothing of their size is allocated.

    That includes a step that the machine's memory cannot hold.
    """
    with torch.device("meta"):
        model = build_model(config, config.train.d_in or 3, problems)
    if model is not None:
        try:
            require_memory(memory_of_training(config, model[0]), "a step", STEP_REMEDY)
        except UserError as error:
            problems.append(f"train: {error}")


def memory_of_training(config: Config, network: Network) -> float:
    """Bytes that training takes on the network's device, about (derived).

    Four copies of the weights (themselves, gradient, two moments); at every point of a step each layer's value and
    its copies for the backward pass, of which points with gradients (Ω, the cloud) keep six and balls three.
    """
    t = config.train
    weights = sum(p.numel() for p in network.parameters())
    widths = sum(p.shape[0] for p in network.parameters() if p.ndim == 2)
    in_balls = t.points_batch * t.pts_per_ball if t.ball_sigma > 0 else 0
    layers = 6 * (t.pts_in_omega + t.points_batch) + 3 * in_balls
    return 4.0 * (4 * weights + widths * layers)
