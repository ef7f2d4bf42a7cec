"""A path between two shapes of a space: the surfaces along it, a page with a slider, and an animated picture."""

import re
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from phase_recon.reconstruction.meshing import surface_of
from phase_recon.reconstruction.progress import Announce
from phase_recon.report.morph import morph_page, morph_picture
from phase_recon.shapespace.fitting import fit_code
from phase_recon.shapespace.shapes import load_shape
from phase_recon.shapespace.space import CODE, Space
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.files import offset_of_mesh


def end_of_path(space: Space, given: str, announce: Announce) -> Tensor:
    """The code (latent_size,) that a name means: of a training shape, of a fit's code.npz, or fitted to a cloud's file.

    Raises:
        UserError: it is none of these.
    """
    path = Path(given)
    if given in space.names or not path.is_file():
        return space.code_of(given)
    if path.name != CODE:
        return fit_code(space, load_shape(space.config, path, announce))
    try:
        with np.load(path, allow_pickle=False) as file:
            values, network = file["code"], int(file["network"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error):
        raise UserError(f"{path}: not a code: give fits/<name>/{CODE} of a shape space") from None
    if values.shape != (space.config.train.latent_size,):
        size = space.config.train.latent_size
        raise UserError(f"{path}: a code of shape {values.shape}, but this space has codes of {size} numbers")
    if network != space.fingerprint:
        raise UserError(f"{path}: is the code for another run or step: name that, or fit the cloud again with eval")
    return torch.tensor(values, dtype=torch.float32, device=space.device)


def write_path(
    space: Space, ends: tuple[str, str], count: int, folder: Path, announce: Announce
) -> dict[str, Path]:
    """Write the surfaces of ``count`` codes, evenly from one end to the other, the page and the picture.

    Args:
        space: the trained space.
        ends: names as for ``end_of_path``.
        count: of surfaces, the two ends included; at least 2.
        folder: where to.
        announce: receives the lines a user should see.

    Raises:
        UserError: an end is not there, a code has no surface, a file cannot be written, or a path is there already and
            plot.overwrite is false.
    """
    if count < 2:
        raise UserError(f"--shapes: expected at least 2, got {count}")
    first, last = (end_of_path(space, end, announce) for end in ends)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}): make room, and try again") from None
    plot, surfaces = space.config.plot, list[Surface]()
    there = {file for file in folder.iterdir() if re.fullmatch(r"\d{3,}\.\w+(\.offset\.txt)?", file.name)}
    if there and not plot.overwrite:
        raise UserError(f"{folder}: holds a path already, and plot.overwrite = false: move it away")
    for number, share in enumerate(np.linspace(0, 1, count)):
        surface = surface_of(space.field(torch.lerp(first, last, float(share))), None, plot)
        kind = plot.mesh_format if surface.dimension == 3 else plot.curve_format
        path = folder / f"{number:03d}.{kind}"
        if note := write_surface(path, surface):
            announce(note)
        there -= {path, offset_of_mesh(path)}
        surfaces.append(surface)
    for path in there:
        path.unlink()
    if there:
        announce(f"note: {counted(len(there), 'file')} of an earlier path, longer or in another format, removed")
    components = [surface.components()[0] for surface in surfaces]
    announce(f"components along the path: {', '.join(map(str, components))}")
    written = {"page": folder / "path.html", "picture": folder / "path.gif"}
    title = f"{ends[0]} to {ends[1]}, {count} shapes"
    morph_page(written["page"], surfaces, title, up=plot.up)
    morph_picture(written["picture"], surfaces, up=plot.up)
    return written
