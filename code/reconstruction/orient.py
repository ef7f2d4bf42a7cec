"""The cloud with oriented normals, in seconds and without a training: for other programs, such as Poisson's.

    python code/reconstruction/orient.py scan.ply                    # writes scan_oriented.ply here
    python code/reconstruction/orient.py scan.ply -o normals.ply

Every point that is no outlier is written where it was, in double precision, with an outward unit normal and a
confidence: 0 where its side is not sure, up to 1 where the normal can be trusted. Of scan lines that are far apart, and
of points that fill a volume, only those that a training would use are written; the command says so.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.commands import Parser, common_flag, exit_status
from phase_recon.reconstruction.findings import arrangement_note, sensor_warning
from phase_recon.reconstruction.flags import add_reading_flags, reading
from phase_recon.reconstruction.input_cloud import files_of, heading, load_cloud
from phase_recon.reconstruction.oriented import oriented_ply, oriented_points
from phase_recon.reconstruction.output import check_folder, check_not_read, replacing
from phase_recon.reconstruction.preprocess import ORIENTING, prepare
from phase_recon.utils.config_files import load_config
from phase_recon.utils.distributed import keep_to_processors
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.files import write_whole
from phase_recon.utils.locations import find_configuration
from phase_recon.utils.overrides import given


def main(arguments: list[str] | None = None) -> int:
    """Read, orient, write; returns the exit status."""
    parser = Parser(
        "CLOUD [-o ORIENTED.ply] [--sensor=X,Y,Z] [--set KEY=VALUE]", __doc__, script="orient.py",
        console="phase-recon-orient",
    )  # fmt: skip
    parser.add_argument("cloud", metavar="CLOUD", help="the point cloud")
    parser.add_argument("-o", "--output", metavar="PATH", type=Path, help="the file to write (<cloud>_oriented.ply)")
    add_reading_flags(parser)
    common_flag(parser, "set")
    parser.add_version_and_debug()
    return exit_status(parser, arguments, orient, "stopped: nothing is written")


def orient(options: argparse.Namespace) -> None:
    """Orient one cloud, as the options ask.

    Raises:
        UserError: the cloud cannot be read, shows no normals, or encloses nothing.
    """
    output = options.output or Path(f"{Path(options.cloud).stem}_oriented.ply")
    if output.suffix.lower() != ".ply":
        raise UserError(f"--output {output}: oriented points are written as .ply, not as {output.suffix or 'that'}")
    check_folder(output, output.parent)
    flags = given([("CLOUD", "train.input_path", options.cloud), *reading(options)])
    keys = [*flags, "train.start = network", *options.set]
    config = load_config(find_configuration("setup.conf"), keys, check_model)
    if config.network.has_normals or not config.train.estimate_normals:
        key = "network.has_normals = true" if config.network.has_normals else "train.estimate_normals = false"
        raise UserError(f"{key}: has no meaning here, as orient finds the normals from the points alone; leave it out")
    cloud, config = load_cloud(config, print)
    check_not_read(output, output, files_of(config), "cloud with normals")
    print(heading(cloud, config))
    if cloud.note:
        print(f"note: {cloud.note}")
    for line in replacing(output, config.plot.overwrite):
        print(line)
    keep_to_processors()
    scene = prepare(config, cloud, stages=ORIENTING)
    for note in (arrangement_note(scene), sensor_warning(scene)):
        if note is not None:
            print(note)
    if scene.normals == "none":
        raise UserError(
            f"{options.cloud}: shows no normals: its points are too few or too noisy for their spacing; more or better "
            "points show them"
        )
    if scene.coarse_normals is None and cloud.sensors is None:
        raise UserError(
            f"{options.cloud}: encloses nothing, so that no side of its points is outside; if one scan saw "
            "them, --sensor=X,Y,Z tells it"
        )
    positions, normals, confidence = oriented_points(scene)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, oriented_ply(positions, normals, confidence))
    left_out = counted(scene.dropped, "outlier")
    print(f"{len(positions)} points, {(confidence > 0).mean():.1%} with a sure side; {left_out} left out")
    print(f"\noriented: {output}")


if __name__ == "__main__":
    sys.exit(main())
