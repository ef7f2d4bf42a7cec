"""The cloud of a run: how it is read, and what a user should know of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud, point_cloud
from phase_recon.datasets.selection import Selection
from phase_recon.reconstruction.given_normals import examine
from phase_recon.reconstruction.progress import Announce
from phase_recon.utils.config import Config
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import find_file
from phase_recon.utils.memory import BYTES_PER_NUMBER, require_memory

# the keys that say how a cloud's file is read, and of which points the cloud then is
READING_KEYS = tuple(
    f"train.{key}" for key in ("crop", "voxel", "classes", "min_opacity", "sample", "d_in", "drop_invalid")
)
ANNOUNCED_BYTES = 30e6  # of a cloud's file, from which its reading is announced
HEADER, LOOKED_AT = 2000, 4000  # bytes: what follows the header of a binary file is no text
TEXT_SPEED = 6e6  # bytes per second of a file of text, measured on one core
BINARY_SPEED = 100e6  # the same of a binary one


def load_cloud(config: Config, say: Announce) -> tuple[PointCloud, Config]:
    """The cloud, and the configuration with the path that it was found at.

    Args:
        config: its train.input_path is looked up from the current folder, then from the project's root.
        say: receives a line where the reading takes long.

    Raises:
        UserError: there is no such file, it cannot be read, or it lacks what the configuration asks for.
    """
    t = config.train
    stations = None if t.stations is None else find_file(t.stations)
    if t.input_path is None:
        raise UserError("train.input_path: not set; give the point cloud: phase-recon CLOUD, or --input PATH")
    path = find_file(t.input_path)
    check_sensors(config)
    if path.is_file() and (size := path.stat().st_size) > ANNOUNCED_BYTES:
        with path.open("rb") as file:
            is_text = not any(byte > 127 or byte == 0 for byte in file.read(LOOKED_AT)[HEADER:])
        speed = TEXT_SPEED if is_text else BINARY_SPEED
        say(f"reading {path}: {size / 1e6:,.0f} MB, about {size / speed:.0f} s")
    if t.sample is None:
        part = Selection(t.crop, t.voxel, t.classes, t.min_opacity)
        cloud = load_point_cloud(
            path, t.d_in, t.drop_invalid, normals=config.network.has_normals, selection=part, sensor=t.sensor,
            stations=stations,
        )  # fmt: skip
    else:
        cloud = sampled(path, t.sample)
        if t.d_in not in (None, cloud.points.shape[1]):
            raise UserError(f"{path}: is {cloud.points.shape[1]}D, but train.d_in = {t.d_in}: leave it out")
    used = config.network.has_normals
    if used and cloud.normals is None:
        raise UserError(
            f"{path}: has no normals, but network.has_normals = true asks for them: set it to false (or leave out "
            "--normals), or give a file with them"
        )
    found = None if stations is None else str(stations.absolute())
    return cloud, replace(config, train=replace(t, input_path=str(path.absolute()), stations=found))


def check_sensors(config: Config) -> None:
    """Refuse places of sensors where normals tell the sides.

    Raises:
        UserError: both are asked for.
    """
    t = config.train
    if config.network.has_normals and (flag := "sensor" if t.sensor else "stations" if t.stations else None):
        raise UserError(f"--{flag} (train.{flag}): has no meaning with --normals, which tell the sides; leave one out")


def without_stations(clouds: Sequence[Path], config: Config) -> list[Path]:
    """Clouds but for the table of stations, which may lie beside them.

    Raises:
        UserError: the table is not there, or places of sensors have no meaning; or no cloud is left.
    """
    check_sensors(config)
    if config.train.stations is None:
        return list(clouds)
    table = find_file(config.train.stations)
    if not table.is_file():
        raise UserError(f"--stations (train.stations): {table}: no such file; give the table of the stations")
    left = [cloud for cloud in clouds if not (cloud.exists() and cloud.samefile(table))]
    if not left:
        raise UserError(f"{table}: is the table of stations; give clouds, too")
    return left


def files_of(config: Config) -> dict[str, Path]:
    """The files that ``load_cloud`` has read, by what they are."""
    given = {"cloud": config.train.input_path, "table of stations": config.train.stations}
    return {name: Path(path) for name, path in given.items() if path is not None}


def heading(cloud: PointCloud, config: Config) -> str:
    """What a cloud is, in a line: its file, its number of points, and what it has besides them."""
    parts = {"normals": cloud.normals, "colours": cloud.colours, "sensor positions": cloud.sensors}
    there = [name for name, part in parts.items() if part is not None]
    kind = f"with {', '.join(there)}" if there else ""
    kind = ", ".join(text for text in (kind, "without normals" if cloud.normals is None else "") if text)
    return f"cloud: {config.train.input_path}, {len(cloud.points)} points in {cloud.points.shape[1]}D, {kind}"


def describe(cloud: PointCloud, config: Config) -> list[str]:
    """What a user should know of a cloud, a line each: how it was read, and whether its normals can be trusted."""
    t, used = config.train, config.network.has_normals
    lines = [heading(cloud, config)]
    if cloud.note:
        no_faces = t.sample is not None or str(t.input_path).lower().endswith(".gltf")  # or cannot be
        hint = "; --sample N takes N points on its faces instead"
        lines.append(f"note: {cloud.note}" + (hint if "vertices of a mesh" in cloud.note and not no_faces else ""))
    if t.sample is None and (found := examine(cloud)) is not None:
        lines.append(f"{'warning' if used and not found.trustworthy else 'note'}: {found.sentence(used)}")
    return lines


def sampled(path: Path, count: int) -> PointCloud:
    """Points (count, d) drawn uniformly by area on the faces of a mesh, with the faces' normals and the colours of the
    corners; the same every time.

    Raises:
        UserError: the file is no mesh, or cannot be read.
    """
    import numpy as np

    from phase_recon.surface.files import READ_KINDS, read_surface  # and its libraries, which take half a second
    from phase_recon.surface.metrics import sample_surface

    if path.suffix.lower() not in READ_KINDS:
        raise UserError(f"--sample: {path} is no mesh; expected one of {', '.join(READ_KINDS)}")
    surface = read_surface(path)
    if not len(surface.cells):
        raise UserError(f"--sample: {path} has no faces to draw points on; leave --sample out to take its points")
    require_memory(BYTES_PER_NUMBER * 2 * surface.dimension * count, f"--sample {count}", "draw fewer points")
    points, cells = sample_surface(surface, count, seed=0)
    try:
        cloud = point_cloud(points, surface.cell_normals()[cells])
    except UserError as error:
        raise UserError(f"--sample: points on the faces of {path}: {str(error).removeprefix('points: ')}") from None
    if surface.colours is not None:  # each point has that of the corner nearest to it
        corners = surface.cells[cells]
        nearest = np.linalg.norm(surface.vertices[corners] - points[:, None], axis=2).argmin(axis=1)
        cloud = replace(cloud, colours=surface.colours[corners[np.arange(len(points)), nearest]])
    return replace(cloud, note=f"points are {count} drawn on the {len(surface.cells)} faces of a mesh")
