"""What a reconstruction is measured against: a mesh, a curve, or a cloud."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from phase_recon.datasets.pointcloud import load_points
from phase_recon.surface.files import READ_KINDS, holds_surface, read_surface
from phase_recon.surface.surface import Surface, select_cells
from phase_recon.utils.errors import UserError


def read_target(path: Path, dimension: int, *, needs_cells: bool = False) -> Surface:
    """A mesh or curve, or a cloud as a surface without cells.

    Args:
        path: the file.
        dimension: 2 or 3, of the run.
        needs_cells: whether a cloud will not do.

    Raises:
        UserError: no such file, of another dimension, without points, without cells that are needed, with cells that
            are all degenerate, or a .gltf.
    """
    if path.suffix.lower() == ".gltf":  # it would be read as a cloud, its vertices
        raise UserError(f"{path}: a target in .gltf has its faces in another file; save a mesh as .glb, points as .ply")
    is_surface = path.suffix.lower() in READ_KINDS and holds_surface(path)
    target = _surface(path, dimension) if is_surface else _cloud(path, dimension)
    if needs_cells and not len(target.cells):
        raise UserError(f"{path}: a target needs cells, but this is a cloud; leave --target out to measure the points")
    if not len(target.vertices):
        raise UserError(f"{path}: holds no points; give a target that has some")
    if target.dimension != dimension:
        raise UserError(f"{path}: is {target.dimension}D, but the cloud is {dimension}D: give one of the same kind")
    if len(target.cells):
        if not target.measure() > 0:
            raise UserError(f"{path}: all of its cells are degenerate, of no size; export it again")
        target = select_cells(target, np.ones(len(target.cells), dtype=bool))  # without vertices that no cell names
    return target


def _surface(path: Path, dimension: int) -> Surface:
    """A mesh or a curve, or a cloud in a format of meshes."""
    try:
        surface = read_surface(path)
    except UserError:
        if path.suffix.lower() != ".npz":  # which holds one or the other
            with suppress(UserError):  # points that no mesh could have, as a .ply of the plane has them
                return _cloud(path, dimension)
        raise
    return surface if len(surface.vertices) else _cloud(path, dimension)


def _cloud(path: Path, dimension: int) -> Surface:
    """A cloud as a surface without cells."""
    return Surface(load_points(path, dimension), np.zeros((0, dimension), dtype=np.int64))
