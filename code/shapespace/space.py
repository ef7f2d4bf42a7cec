"""A shape space: one network, a latent code for each shape, and the frame that they share."""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phase_recon.geometry.points import Domain, Normalisation
from phase_recon.model.base import Network
from phase_recon.model.latent import CodedNet
from phase_recon.model.loss.base import Loss
from phase_recon.model.network import ImplicitNet
from phase_recon.reconstruction.build_model import build_model, kernels_for
from phase_recon.reconstruction.field import NeuralField, check_weights
from phase_recon.shapespace.config import SpaceConfig, space_config_from_dict
from phase_recon.utils.checkpoint import ANOTHER, read_checkpoint
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import checkpoint_at

CODE = "code.npz"  # of a fit: its code, and the fingerprint of the network that it is for


@dataclass(frozen=True)
class Space:
    """A network with the codes of the shapes that it was trained on.

    Attributes:
        config: what it was trained with, or is used with.
        network: maps points (..., d) and a code (latent_size,) to (...).
        loss: gives the output its meaning.
        codes: of the training shapes (n, latent_size).
        names: of the training shapes.
        domain: the frame of all shapes, and Ω.
        device: where network and codes are.
    """

    config: SpaceConfig
    network: Network
    loss: Loss
    codes: Tensor
    names: list[str]
    domain: Domain
    device: torch.device

    def field(self, code: Tensor) -> NeuralField:
        """The shape of a code (latent_size,), as every other field is meshed, drawn, queried and measured."""
        network, domain = CodedNet(self.network, code.detach()), self.domain
        return NeuralField(network, self.loss, domain.normalisation, domain.lower, domain.upper, self.device).outward()

    @property
    def fingerprint(self) -> int:
        """The CRC-32 of the network's weights: a code has a meaning for these alone."""
        crc = 0
        for weights in self.network.state_dict().values():
            crc = zlib.crc32(weights.detach().cpu().contiguous().numpy().tobytes(), crc)
        return crc

    def code_of(self, name: str) -> Tensor:
        """The code (latent_size,) of a training shape.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self.names:
            some = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise UserError(f"{name}: no file, and no shape of the training; there are {some}")
        return self.codes[self.names.index(name)]


def new_space(
    config: SpaceConfig, names: list[str], domain: Domain, noise: float, device: torch.device, problems: list[str]
) -> Space:
    """A space before its training: the network as its class starts, and codes of zero.

    Args:
        config: any that has been checked.
        names: of the shapes.
        domain: their frame.
        noise: of their points, normalised.
        device: where to compute.
        problems: why steps are slower than they could be is appended.

    Raises:
        UserError: the network or the loss that the configuration names cannot be made.
    """
    wrong: list[str] = []
    model = build_model(config.single, len(domain.lower), wrong, config.train.latent_size)
    if model is None or wrong:
        raise UserError("; ".join(wrong))
    network, loss = model[0].to(device), model[1].for_noise(noise)
    if isinstance(network, ImplicitNet):
        network.kernels = kernels_for(config.single, device, problems)
    codes = torch.zeros(len(names), config.train.latent_size, device=device)
    return Space(config, network, loss, codes, names, domain, device)


def space_from_checkpoint(checkpoint: dict[str, Any], device: torch.device, source: str) -> Space:
    """The space that a checkpoint holds; ``source`` names it in errors.

    Raises:
        UserError: it is that of a single shape, or its parts do not belong together.
    """
    if "codes" not in checkpoint:
        raise UserError(f"{source}: holds a single shape, not a shape space: load it by reconstruction/run.py --eval")
    config = space_config_from_dict(checkpoint["config"], source)
    names, codes = checkpoint.get("names"), checkpoint["codes"]
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not isinstance(codes, Tensor)
        or codes.shape != (len(names), config.train.latent_size)
    ):
        raise UserError(f"{source}: its codes are not those of its shapes; {ANOTHER}")
    noise = checkpoint.get("noise", 0.0)
    if not (isinstance(noise, float) and 0 <= noise < math.inf and bool(codes.isfinite().all())):
        raise UserError(f"{source}: its codes or its noise are no finite numbers; {ANOTHER}")
    omega, weights = checkpoint["omega"], checkpoint["network"]
    check_weights(config.single, len(omega["lower"]), weights, source, config.train.latent_size)
    domain = Domain(
        Normalisation.from_dict(checkpoint["normalisation"]), np.array(omega["lower"]), np.array(omega["upper"])
    )
    space = new_space(config, names, domain, noise, device, [])
    space.network.load_state_dict(weights)
    space.codes.copy_(codes)
    return space


def load_space(run_or_checkpoint: str | Path) -> Space:
    """The space of a run's folder (its latest checkpoint) or of a checkpoint file, on the CPU.

    Raises:
        UserError: nothing to load there.
    """
    path = checkpoint_at(run_or_checkpoint)
    return space_from_checkpoint(read_checkpoint(path), torch.device("cpu"), str(path))
