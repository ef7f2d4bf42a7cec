"""A checkpoint from anyone: nothing in it is run, believed or allocated for before it is looked at.

``check_parts`` looks at the file before torch reads it, ``check_values`` at what torch has read.
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

# what the description of a checkpoint of ours names; torch's weights-only reader allows a hundred things more,
# among them some that allocate whatever they are told to
NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {
    f"torch {kind}Storage" for kind in ("Byte", "Double", "Float", "Long")
}
MOST_GRIDS = 16  # of a correction
LEAST_SPACING = 1e-5  # of a grid, normalised: nobody has so fine a one
LARGEST = 1e100  # of lengths in the input's units, as for clouds


def check_parts(path: Path) -> None:
    """Look at the parts of a checkpoint's file.

    Raises:
        UserError: parts that this program does not write: compressed, of one name, naming other objects than
            tensors, or tensors that are larger than their data.
        Exception: of many kinds, where the file is damaged.
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
    """Look at the values of a checkpoint that has all its keys: types, ranges, and tensors no larger than the file.

    Those of the configuration, the shapes of the weights and what the optimisers remember are checked where they are
    used.

    Raises:
        UserError: the first that is not as ``fit`` writes it.
    """
    d, size = data["d"], path.stat().st_size
    frame, omega, cloud = data["normalisation"], data["omega"], data["cloud"]
    gaps, detail = data.get("gaps"), data.get("detail")  # which earlier versions lack
    rules = {
        "d": _is_whole(d) and d in (2, 3),
        "epoch": _is_whole(data["epoch"]) and data["epoch"] >= 0,
        "seconds": _is_number(data["seconds"], 1e12) and data["seconds"] >= 0,
        "config": isinstance(data["config"], dict),
        "network": _are_tensors(data["network"], size),
        "optimizers": isinstance(data["optimizers"], list),
        "generator": _is_tensor(data["generator"], size) and data["generator"].dtype == torch.uint8,
        "normalisation": isinstance(frame, dict)
        and _is_point(frame.get("centre"), d, LARGEST)
        and _is_number(frame.get("scale"), LARGEST)
        and frame["scale"] > 0,
        # the unit ball is within Ω, which is bounding_box_scale times its box
        "omega": isinstance(omega, dict)
        and _is_point(omega.get("lower"), d, 1e6)
        and _is_point(omega.get("upper"), d, 1e6)
        and all(low < high for low, high in zip(omega["lower"], omega["upper"], strict=True)),
        "gaps": gaps is None
        or (
            isinstance(gaps, dict)
            and gaps.keys() == {"mean", "points", "normals"}
            and _are_tensors(gaps["mean"], size)
            and all(gaps[part] is None or _is_points(gaps[part], d, size) for part in ("points", "normals"))
        ),
        "detail": detail is None
        or (isinstance(detail, list) and 1 <= len(detail) <= MOST_GRIDS and all(_is_grid(g, d, size) for g in detail)),
        "cloud": isinstance(cloud, dict) and {"points", "checksum"} <= cloud.keys(),
    }
    for name, holds in rules.items():
        if not holds:
            raise UserError(
                f"{path}: not a checkpoint of this program: {name} is not what a run saves; "
                "load another with --checkpoint N"
            )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= most


def _is_point(value: Any, d: int, most: float) -> bool:
    return isinstance(value, list) and len(value) == d and all(_is_number(x, most) for x in value)


def _is_tensor(value: Any, size: int) -> bool:
    """A plain tensor that has data for each of its numbers, not one that repeats a few over a huge shape."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.is_contiguous()
        and math.prod(value.shape) * value.element_size() <= size
    )


def _is_points(value: Any, d: int, size: int) -> bool:
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
    if nodes.abs().max() >= 1 << 18 or not coefficients.isfinite().all():
        return False
    step = nodes[1:] - nodes[:-1]  # the first axis along which two that follow each other differ must rise
    first = step[torch.arange(len(step)), (step != 0).int().argmax(dim=1)]
    return bool((first > 0).all())


def _are_tensors(value: Any, size: int) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _is_tensor(item, size) for name, item in value.items()
    )
