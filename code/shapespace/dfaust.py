"""D-FAUST's scans (Bogo et al. 2017) -> the layout in which IGR keeps them processed.

The scans are licensed, and not here. Of scans/<person>/<action>/<name>.ply it makes <out>/<person>/<action>/<name>.npy,
points (250 000, 6) of the scan's triangles, less their mean, with the triangles' normals; and beside it
<name>_normalization.npy with that mean, as IGR's evaluation reads it.
"""

from pathlib import Path

import numpy as np

from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import sample_surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import npy_of, write_whole

SAMPLES = 250_000  # of each scan, as in IGR


def process_scans(scans: Path, out: Path, samples: int = SAMPLES) -> tuple[int, int]:
    """Sample every scan below a folder that has not been; returns how many were, and how many had been.

    Raises:
        UserError: there are no scans, one is not a mesh, or a file cannot be written.
    """
    if samples < 1:
        raise UserError(f"--points: expected at least 1, got {samples}")
    files = sorted(scans.glob("*/*/*.ply"))
    if not files:
        raise UserError(f"{scans}: holds no scans: expected <person>/<action>/<name>.ply below it")
    done = 0
    for number, file in enumerate(files):
        target = out / file.relative_to(scans).with_suffix(".npy")
        if target.is_file():
            continue
        surface = read_surface(file)
        if surface.dimension != 3 or not len(surface.cells):
            raise UserError(f"{file}: a scan needs triangles, but this has none")
        points, cells = sample_surface(surface, samples, seed=number)
        centre = points.mean(axis=0)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{target.parent}: cannot be made ({error.strerror}); choose another --out") from None
        beside = target.with_name(f"{target.stem}_normalization.npy")
        write_whole(beside, npy_of(np.array({"center": centre, "scale": 1})), "choose another --out")
        rows = np.concatenate([points - centre, surface.cell_normals()[cells]], axis=1)
        write_whole(target, npy_of(rows), "choose another --out")
        done += 1
    return done, len(files) - done
