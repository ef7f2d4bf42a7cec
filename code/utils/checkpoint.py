"""Reads an untrusted checkpoint: no code in it is run, and no size in it is believed.

``check_parts`` checks the file before torch reads it, ``check_values`` the values that torch has read.
"""

import math
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phase_recon.utils.archive import check_archive
from phase_recon.utils.errors import UserError

# The objects that a checkpoint of this program names. torch's weights-only reader allows about a hundred more, some of
# which allocate any amount of memory.
NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {
    f"torch {kind}Storage"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
}
ANOTHER = "load another checkpoint (--checkpoint N)"  # end of errors
MOST_GRIDS = 16  # of a correction
LEAST_SPACING = 1e-5  # normalised units: spacing of the nodes of a grid; nobody has so fine a one
LARGEST_LENGTH = 1e100  # input units: largest coordinate or scale, as for clouds
LARGEST_OMEGA = 1e6  # normalised units: largest coordinate of Ω's corners; the cloud is in the unit ball
FARTHEST_NODE = 1 << 18  # largest index of a grid's node along an axis: half of what a key of model.grid holds
LARGEST_SECONDS = 1e12  # seconds of training: 30 000 years
STAGES = ("steps", "detail", "end")  # what a run is to do next, from a checkpoint on
FORMAT = 1  # version of the checkpoints' format
# the keys that every checkpoint has
CHECKPOINT_KEYS = frozenset(
    {"format", "epoch", "seconds", "config", "d", "network", "optimizers", "generator", "normalisation",
     "omega", "cloud"}
)  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, without pickle; its tensors are on the CPU.

    Raises:
        UserError: the file does not exist, is no checkpoint, is cut short, has another format, or contains values that
            no run saves.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a run's folder, or its checkpoints/<step>.pth")
    try:
        check_parts(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # zipfile and torch raise many kinds on damaged files
        raise UserError(f"{path}: not a checkpoint, or cut short: {ANOTHER}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format", "none") if isinstance(data, dict) else "none"
        raise UserError(
            f"{path}: not a checkpoint of this program (format {str(found)[:20]}, expected {FORMAT}); {ANOTHER}"
        )
    missing = CHECKPOINT_KEYS - data.keys()
    if missing:
        raise UserError(f"{path}: not a complete checkpoint: {', '.join(sorted(missing))} missing; {ANOTHER}")
    check_values(data, path)
    return data


def check_parts(path: Path) -> None:
    """Check the parts of a checkpoint's file, which is a zip archive.

    Raises:
        UserError: this program does not write such parts: they are compressed, two have one name, or they name other
            objects than tensors.
        Exception: the file is damaged; the kind depends on where.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UserError(f"{path}: not a checkpoint of this program: its parts are compressed")
        descriptions = [name for name in sizes if name.endswith("/data.pkl")]
        if len(descriptions) != 1:
            raise UserError(f"{path}: not a checkpoint of this program: it has {len(descriptions)} descriptions")
        operations = list(pickletools.genops(archive.read(descriptions[0])))
    for operation, argument, _ in operations:
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX") or (
            operation.name == "GLOBAL" and argument not in NAMES
        ):
            name = argument or operation.name
            raise UserError(f"{path}: not a checkpoint of this program: it names {str(name)[:60]!r}, which is not run")


def check_values(data: dict[str, Any], path: Path) -> None:
    """Check the values of a checkpoint that has all its keys: types, ranges, and that tensors fit into the file.

    The values of the configuration, the shapes of the weights and the states of the optimisers are checked where they
    are used.

    Args:
        data: the checkpoint.
        path: its file.

    Raises:
        UserError: a value is not one that a run saves; the text names the first.
    """
    d, size = data["d"], path.stat().st_size
    frame, omega, cloud = data["normalisation"], data["omega"], data["cloud"]
    gaps, detail = data.get("gaps"), data.get("detail")  # missing in checkpoints of earlier versions, as the next
    status, mending, good = data.get("status", {}), data.get("mending"), data.get("good")
    rules = {
        "d": _is_whole(d) and d in (2, 3),
        "epoch": _is_whole(data["epoch"]) and data["epoch"] >= 0,
        "stage": data.get("stage", "end") in STAGES,
        "seconds": _is_number(data["seconds"], LARGEST_SECONDS) and data["seconds"] >= 0,
        "config": isinstance(data["config"], dict),
        "network": _are_tensors(data["network"], size),
        "optimizers": isinstance(data["optimizers"], list),
        "generator": _is_tensor(data["generator"], size) and data["generator"].dtype == torch.uint8,
        "normalisation": isinstance(frame, dict)
        and _is_point(frame.get("centre"), d, LARGEST_LENGTH)
        and _is_number(frame.get("scale"), LARGEST_LENGTH)
        and frame["scale"] > 0,
        # the unit ball is within Ω, which is bounding_box_scale times its box
        "omega": isinstance(omega, dict)
        and _is_point(omega.get("lower"), d, LARGEST_OMEGA)
        and _is_point(omega.get("upper"), d, LARGEST_OMEGA)
        and all(low < high for low, high in zip(omega["lower"], omega["upper"], strict=True)),
        "walls_inside": isinstance(data.get("walls_inside", False), bool),
        "gaps": gaps is None
        or (
            isinstance(gaps, dict)
            and gaps.keys() == {"mean", "points", "normals"}
            and _are_tensors(gaps["mean"], size)
            and all(gaps[part] is None or _is_points(gaps[part], d, size) for part in ("points", "normals"))
        ),
        "detail": detail is None
        or (isinstance(detail, list) and 1 <= len(detail) <= MOST_GRIDS and all(_is_grid(g, d, size) for g in detail)),
        "status": status == {}
        or (
            isinstance(status, dict)
            and status.keys() == {"names", "sums", "last"}
            and isinstance(status["names"], list)
            and all(isinstance(name, str) for name in status["names"])
            and _is_tensor(status["sums"], size)
            and status["sums"].shape == (len(status["names"]),)
            and _is_step(status["last"], data["epoch"])
        ),
        "mending": mending is None
        or (
            isinstance(mending, dict)
            and mending.keys() == {"seed", "reason", "since", "factor", "spent"}
            and _is_whole(mending["seed"])
            and mending["seed"] >= 0
            and isinstance(mending["reason"], str)
            and _is_step(mending["since"], data["epoch"])
            and _is_number(mending["factor"], 1.0)
            and _is_number(mending["spent"], LARGEST_SECONDS)
        ),
        "good": good is None or _is_step(good, data["epoch"]),
        "cloud": isinstance(cloud, dict)
        and {"points", "checksum"} <= cloud.keys()
        and isinstance(cloud["points"], int),
    }
    for name, holds in rules.items():
        if not holds:
            raise UserError(
                f"{path}: not a checkpoint of this program: {name} is not what a run saves; {ANOTHER}"
            )


def _is_whole(value: Any) -> bool:
    """Whether it is an integer of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_step(value: Any, epoch: Any) -> bool:
    """Whether it is a number of steps up to those that a run has made."""
    return _is_whole(value) and _is_whole(epoch) and 0 <= value <= epoch


def _is_number(value: Any, most: float) -> bool:
    """Whether it is a number between -most and most."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= most


def _is_point(value: Any, d: int, most: float) -> bool:
    """Whether it is a list of d numbers between -most and most."""
    return isinstance(value, list) and len(value) == d and all(_is_number(x, most) for x in value)


def _is_tensor(value: Any, size: int) -> bool:
    """Whether it is a contiguous tensor with data for each number: a few repeated ones could claim a huge shape."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.is_contiguous()
        and math.prod(value.shape) * value.element_size() <= size
    )


def _is_points(value: Any, d: int, size: int) -> bool:
    """Whether it is a tensor (N, d) in single precision, of at most ``size`` bytes."""
    return _is_tensor(value, size) and value.dtype == torch.float32 and value.ndim == 2 and value.shape[1] == d


def _is_grid(value: Any, d: int, size: int) -> bool:
    """A grid of ``model.grid``: different nodes in the order of their keys, and a finite coefficient for each."""
    if not (isinstance(value, dict) and value.keys() == {"spacing", "nodes", "coefficients"}):
        return False
    spacing, nodes, coefficients = value["spacing"], value["nodes"], value["coefficients"]
    if not (_is_number(spacing, 1e6) and spacing >= LEAST_SPACING and _is_tensor(nodes, size) and nodes.ndim == 2):
        return False
    if not (nodes.dtype == torch.int32 and nodes.shape[1] == d and len(nodes) and _is_tensor(coefficients, size)):
        return False
    if coefficients.dtype != torch.float32 or coefficients.shape != nodes.shape[:1]:
        return False
    if nodes.min() <= -FARTHEST_NODE or nodes.max() >= FARTHEST_NODE or not coefficients.isfinite().all():
        return False
    step = nodes[1:] - nodes[:-1]  # the first axis along which two that follow each other differ must rise
    first = step[torch.arange(len(step)), (step != 0).int().argmax(dim=1)]
    return bool((first > 0).all())


def _are_tensors(value: Any, size: int) -> bool:
    """Whether it is a mapping of names to tensors of at most ``size`` bytes each."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _is_tensor(item, size) for name, item in value.items()
    )
