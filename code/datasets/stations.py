"""Where the scanner stood, told apart from the cloud: one position for all points, or a table of stations."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import SENSORS, STATION
from phase_recon.datasets.readers import read_table
from phase_recon.datasets.table import Table, shorten
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]
LISTED = 5  # numbers of stations that an error names, at most


def with_sensor(table: Table, position: tuple[float, ...], path: Path) -> Table:
    """The table with this position (d,) as that of the sensor which saw each point, in place of the file's own.

    Args:
        table: the points.
        position: in the input's units.
        path: the points' file, for errors.

    Raises:
        UserError: the position has another dimension than the points.
    """
    if len(position) != len(table.axes):
        raise UserError(
            f"--sensor (train.sensor): has {len(position)} coordinates, but {path} holds {len(table.axes)}D points: "
            f"give {','.join(table.axes)}"
        )
    return _with_positions(table, np.broadcast_to(np.array(position), (len(table), len(position))))


def with_stations(table: Table, stations: Path, path: Path) -> Table:
    """The table with the position of the station that saw each point, in place of the file's own.

    Args:
        table: the points, with a column of their stations' numbers.
        stations: a file of points with the columns station, x, y and, in 3D, z, a row for each station.
        path: the points' file, for errors.

    Raises:
        UserError: the stations cannot be read, their numbers come twice, or the points are of others.
    """
    known = read_table(stations)
    if STATION not in known.columns:
        raise UserError(
            f"{stations}: names no column {STATION}: expected a first line station,{','.join(table.axes)}, with "
            "numbers below it, as names are not read"
        )
    if not len(known):
        raise UserError(f"{stations}: holds no stations: expected a row station,{','.join(table.axes)} for each")
    if known.axes != table.axes:
        raise UserError(
            f"{stations}: holds {len(known.axes)}D positions, but {path} holds {len(table.axes)}D points: expected the "
            f"columns station,{','.join(table.axes)}"
        )
    if STATION not in table.columns:
        raise UserError(
            f"{path}: has no column that tells the station of each point: name one {STATION}, with numbers, or leave "
            "out --stations (train.stations); --sensor x,y,z is for a single scan"
        )
    numbers, row = np.unique(known.columns[STATION], return_index=True)
    if len(numbers) < len(known):
        raise UserError(f"{stations}: lists a {STATION} twice: keep one row of each")
    asked = table.columns[STATION]
    if unnamed := np.count_nonzero(np.isnan(asked)):
        raise UserError(f"{path}: {unnamed} of {len(asked)} points have no {STATION}: give them one, or remove them")
    found = np.minimum(np.searchsorted(numbers, asked), len(numbers) - 1)
    if (unknown := numbers[found] != asked).any():
        others = ", ".join(f"{number:g}" for number in np.unique(asked[unknown])[:LISTED])
        raise UserError(
            f"{stations}: lists no {STATION} {shorten(others)[1:-1]}, of which {path} has {np.count_nonzero(unknown)} "
            "points: add the rows"
        )
    return _with_positions(table, known.stack(known.axes)[row[found]])


def _with_positions(table: Table, positions: Array) -> Table:
    names = SENSORS[: positions.shape[1]]
    notes = table.notes
    if names[0] in table.columns:
        notes = (*notes, "the sensor positions of the file are replaced by those given")
    columns = table.columns | dict(zip(names, positions.T, strict=True))
    return Table(columns, table.total, notes, table.dropped)
