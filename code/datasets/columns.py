"""What the columns of a file are: by their names or, where it gives none, by the numbers in them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.table import shorten
from phase_recon.utils.errors import UserError

AXES = ("x", "y", "z")
NORMALS = ("nx", "ny", "nz")
COLOURS = ("red", "green", "blue")
SENSORS = ("sensor_x", "sensor_y", "sensor_z")  # where the sensor was that saw the point
CLASS = "classification"  # of a point, as in LAS: 2 is ground, 6 is building
STATION = "station"  # the number of the place from which a point was seen
OPACITY = "opacity"  # of a 3D Gaussian, 0 to 1; in other files a column of this name says nothing of the points
KNOWN = (*AXES, *NORMALS, *COLOURS, *SENSORS, STATION, CLASS)

# other programs' names: CloudCompare, ParaView, PCL, older PLY files, multi-view stereo
ALIASES = {
    **{"r": "red", "g": "green", "b": "blue", "rf": "red", "gf": "green", "bf": "blue"},
    **{f"diffuse_{colour}": colour for colour in COLOURS},
    **{f"points:{i}": axis for i, axis in enumerate(AXES)},
    **{f"normal{dash}{axis}": f"n{axis}" for dash in ("_", "") for axis in AXES},
    **{f"{short}{axis}": f"sensor_{axis}" for short in ("v", "vp_") for axis in AXES},
    **dict.fromkeys(("station_id", "scan_id", "scan_index", "point_source_id", "sensor_id"), STATION),
    "scalar_original_cloud_index": STATION,
    **dict.fromkeys(("class", "label", "scalar_classification"), CLASS),
}

POSITIONAL_TEXT = (
    "2 columns (x y), 3 (x y z), 4 (x y nx ny), 6 (x y z nx ny nz, or x y z red green blue) or a header line that "
    "names them"
)
UNIT_ERROR = 0.1  # difference of a normal's length from 1, at most
UNIT_SHARE = 0.9  # of the rows that must be so, for columns without names to be normals
GUESSED_COLUMNS = 16  # at most: a wider table needs names
ALIKE = 0.5  # correlation of red, green and blue, at least, where they stand before a single column
CLEARLY = 0.1  # and by how much it must be above that of what else they could be
GUESSED_ROWS = 20_000  # of the file's first, by which its columns are told


def standard(name: str) -> str:
    """Give the standard spelling of a column's name."""
    return ALIASES.get(name.lower(), name.lower())


def known_columns(where: str, names: Sequence[str]) -> dict[str, int]:
    """Map those of the columns' names that are KNOWN, in their standard spelling, to their places.

    Raises UserError where x or y is missing or a name that is needed comes twice.
    """
    spelt = [standard(name) for name in names]
    places: dict[str, int] = {}
    for place, name in enumerate(spelt):
        if name in KNOWN and name not in places:
            places[name] = place
    for name in places:
        if name in AXES + NORMALS and spelt.count(name) > 1:
            raise UserError(f"{where} names the column {name} twice: keep one of them")
    if not {"x", "y"} <= places.keys():
        raise UserError(
            f"{where} names the columns {shorten(' '.join(names))}: expected x and y among them "
            "(and z, nx, ny, nz where there are such)"
        )
    return places


def guess_columns(
    values: npt.NDArray[np.float64], where: str, *, solid: bool = False
) -> tuple[dict[str, int], str | None]:
    """Tell columns without names by their number and by what is in them (n, C).

    Three columns of unit length are normals; three of whole numbers from 0 to 255, or six columns of which the
    last three are from 0 to 1, are colours. What else stands behind the coordinates (intensities, times) is left
    out. A first column that counts the rows is skipped. ``solid`` says that the points are in 3D.

    Returns the places by name; and a note of what was left out, or None.
    Raises UserError where there are fewer than 2 columns or more than GUESSED_COLUMNS.
    """
    values = values[:GUESSED_ROWS]
    columns = values.shape[1]
    if columns > 3 and len(values) > 2 and np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1)):
        places, further = guess_columns(values[:, 1:], where, solid=solid)
        note = "the first column counts the rows and was left out"
        return {name: place + 1 for name, place in places.items()}, note if further is None else (
            f"{note}; of the others, {further}")
    if not 2 <= columns <= GUESSED_COLUMNS:
        raise UserError(f"{where} has {columns} column{'s' * (columns != 1)}: expected {POSITIONAL_TEXT}")
    if columns == 4 and not solid and _are_unit(values[:, 2:]):
        return {"x": 0, "y": 1, "nx": 2, "ny": 3}, None

    places = {axis: i for i, axis in enumerate(AXES[:columns])}
    # single columns stand before colours more often than behind them, as the intensity of .pts does
    blocks = {start: values[:, start : start + 3] for start in range(3, columns - 2)}
    starts = sorted(blocks, key=lambda start: (columns - start) % 3 != 0)
    normals = next((start for start in starts if _are_unit(blocks[start])), None)
    if normals is not None:
        places |= {name: normals + i for i, name in enumerate(NORMALS)}
        starts = [start for start in starts if abs(start - normals) >= 3]
    if found := [start for start in starts if _are_colours(blocks[start], to_one=columns == 6)]:
        first, likely = min(found), found[0]
        if _likeness(blocks[first]) > max(_likeness(blocks[likely]) + CLEARLY, ALIKE):
            likely = first
        places |= {name: likely + i for i, name in enumerate(COLOURS)}
    if columns == 6 and len(places) == 3:
        places |= {name: 3 + i for i, name in enumerate(NORMALS)}
    rest = [str(i + 1) for i in range(columns) if i not in places.values()]
    if not rest:
        return places, None
    return places, f"column{'s' * (len(rest) > 1)} {', '.join(rest)} without a name left out"


def _likeness(block: npt.NDArray[np.float64]) -> float:
    """The least correlation of two of three columns (n, 3); 0 where one is the same throughout."""
    return float(np.corrcoef(block.T).min()) if block.std(axis=0).all() else 0.0


def _are_unit(block: npt.NDArray[np.float64]) -> bool:
    """Whether most rows (n, d) are vectors of length 1; rows of zeros or NaN say nothing."""
    told = np.isfinite(block).all(axis=1) & block.any(axis=1)
    if not told.any() or np.abs(block[told]).max() > 2:
        return False
    lengths = np.sqrt(np.square(block[told]).sum(axis=1))
    return bool((np.abs(lengths - 1) < UNIT_ERROR).mean() >= UNIT_SHARE)


def _are_colours(block: npt.NDArray[np.float64], to_one: bool) -> bool:
    """Whether all rows (n, 3) are whole numbers from 0 to 255; or, if asked, numbers from 0 to 1."""
    if not np.isfinite(block).all() or block.min(initial=0) < 0 or not block.any():
        return False
    whole = block.max() > 1 and block.max() <= 255 and np.array_equal(block, np.round(block))
    return whole or (to_one and block.max() <= 1)
