"""The flags of run.py: what there are, which belong together, and the keys of the configuration that they stand for."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phase_recon.reconstruction.commands import EXIT_STATUSES, Parser, check_length, common_flag
from phase_recon.utils.errors import UserError
from phase_recon.utils.overrides import Override, given


@dataclass(frozen=True)
class Quality:
    """A preset: the length of the training, the cells of the grid (None: by the points), and what to expect of both."""

    steps: int
    resolution: int | None
    time: str
    expect: str


GOES_ON_WITH_ITS_SEED = (
    "--is-continue: --seed (train.seed) is of the start of a run, which goes on with its own; leave it out"
)

# Measured with data/bunny.xyz (20 000 points) on two slow cores (AMD EPYC, AVX2). draft: 38 s, 52 s of one core;
# standard: 53 to 65 s, 78 to 87 s of one core; fine: 131 s, 194 s of one core.
QUALITIES = {
    "draft": Quality(500, 128, "20 to 40 s", "the shape is there, detail is rounded"),
    "standard": Quality(1500, None, "½ to 1½ min", "the default"),
    "fine": Quality(5000, 512, "1 to 3 min", "finer detail; of a dense cloud add --resolution 1024"),
}

USAGE = "CLOUD [-o MESH] [--quality draft|standard|fine] [more flags, see below]"
READ, WRITTEN, CURVES = (
    ".xyz .txt .csv .tsv .pts .asc .dat .3d .xyzn .npts .nxyz .xyzrgb .npy .npz .ply .obj .off .stl .e57 .glb .gltf "
    ".pcd .ptx .las .laz",
    ".ply .obj .stl .glb", ".ply .svg .npz",
)  # fmt: skip
PRESETS = "\n".join(
    f"  {name:9s} {kind.steps:6,} steps, resolution {kind.resolution or '256 on'}, {kind.time:14s} {kind.expect}"
    for name, kind in QUALITIES.items()
)
EPILOG = f"""quality (times on two cores, for a cloud of 20 000 points and the network of setup.conf):
{PRESETS}

files read:     {READ}
                x y z, with normals and colours where there are; of a mesh its vertices, or --sample N
files written:  {WRITTEN}; curves in 2D: {CURVES}
results:        -o, and always <exps-dir>/<expname>/<time of start>/ with the surface, pictures, a page to turn it
                in a browser, measurements, checkpoints and the whole configuration. <exps-dir> is exps/ of the
                checkout, or of the current folder where phase-recon is installed; <expname> the cloud's name.

{EXIT_STATUSES}"""


def parser(description: str) -> Parser:
    """What run.py can be asked on the command line."""
    flags = Parser(USAGE, description, EPILOG, script="run.py", console="phase-recon")
    what = flags.add_argument_group("what to do")
    what.add_argument(
        "clouds", metavar="CLOUD", nargs="*", default=[],
        help="the point cloud; or many: several files, a folder, a glob, @list.txt",
    )  # fmt: skip
    what.add_argument("--input", metavar="PATH", help="the same as CLOUD")
    what.add_argument(
        "-o", "--output", metavar="PATH", type=Path,
        help="write the surface here, in the format of its extension, in place of what is there; "
        "of many clouds: a folder",
    )  # fmt: skip
    what.add_argument("--target", metavar="PATH", type=Path, help="measure against this mesh or cloud at the end")
    what.add_argument(
        "--query", metavar="PATH", type=Path,
        help="also write u (phase), w (signed distance) and ∇w at these points (query.npz)",
    )  # fmt: skip
    what.add_argument("--eval", action="store_true", help="mesh, draw and measure a trained run; no training")
    what.add_argument("--is-continue", action="store_true", help="go on with a run, with its configuration")

    how = flags.add_argument_group("how", "A flag wins over the configuration file, and --set over both.")
    how.add_argument("--quality", choices=QUALITIES, help="steps and resolution together, see below")
    common_flag(how, "minutes", help="time for the whole command, in place of a number of steps; train.time_budget")
    common_flag(how, "steps", help="length of the training (1500); train.nepoch")
    how.add_argument(
        "--resolution", metavar="N", type=int, help="cells along the box (256 to 1024, by the points); plot.resolution"
    )
    how.add_argument(
        "--trim", metavar="WHAT", type=_number_or_word,
        help="what is cut off where points are missing. open: all that no points show; a number: what is farther than "
        "that from them, in their unit; closed: nothing; auto: as open, if the cloud looks open; plot.trim",
    )  # fmt: skip
    how.add_argument(
        "--normals", action=argparse.BooleanOptionalAction,
        help="use the normals of the file, which must point outward; network.has_normals",
    )  # fmt: skip
    add_reading_flags(how)
    common_flag(how, "seed", help="seed of everything random (0); train.seed")
    common_flag(how, "set")
    how.add_argument(
        "--conf", metavar="PATH", default="setup.conf",
        help="the configuration: a file, or a name such as siren or published (setup.conf)",
    )  # fmt: skip
    how.add_argument("--points-batch", metavar="N", type=int, help="points per step (256); train.points_batch")
    how.add_argument("--jobs", metavar="N", type=int, default=1, help="with many clouds: how many at a time (1)")
    common_flag(how, "gpu")

    which = flags.add_argument_group("which run")
    common_flag(which, "expname", help="its name (that of the cloud's file); train.expname")
    common_flag(which, "exps-dir", help="the folder of all runs (exps/); train.exps_dir")
    which.add_argument(
        "--timestamp", metavar="STAMP", default="latest",
        help="which run of that name: its folder, the time of its start (the newest with --eval and --is-continue, "
        "else a new one)",
    )  # fmt: skip
    which.add_argument("--checkpoint", metavar="N", default="latest", help="the step to load (the latest)")
    flags.add_version_and_debug()
    return flags


def add_reading_flags(group: Any) -> None:
    """Add the flags that say what is read of a cloud's file, and where its sensors stood, to a parser or a group."""
    group.add_argument("--sample", metavar="N", type=int, help="of a mesh: N points on its faces; train.sample")
    ends = "xmin,xmax,ymin,ymax,zmin,zmax"
    group.add_argument("--crop", metavar="ENDS", help=f"read a box: --crop={ends}, an empty end is open; train.crop")
    group.add_argument("--voxel", metavar="SIZE", type=float, help="read one point per cell of this side; train.voxel")
    group.add_argument("--classes", metavar="LIST", help="read these classes of a LAS file, as 2,6; train.classes")
    group.add_argument(
        "--min-opacity", metavar="O", type=float, help="3D Gaussians of at least this opacity (0.5); train.min_opacity"
    )
    group.add_argument(
        "--sensor", metavar="X,Y,Z", help="where the scanner stood that saw all points: --sensor=1.5,0,2; train.sensor"
    )
    group.add_argument(
        "--stations", metavar="PATH",
        help="of several stations: a table station,x,y,z, for a cloud with a column station; train.stations",
    )  # fmt: skip


def inputs(options: argparse.Namespace) -> list[str]:
    """The clouds that the command line names, as they were given.

    Raises:
        UserError: both by themselves and by --input.
    """
    if options.input is not None and options.clouds:
        raise UserError(f"--input {options.input} and {options.clouds[0]}: give the cloud once")
    return [options.input] if options.input is not None else list(options.clouds)


def overrides(options: argparse.Namespace) -> list[str | Override]:
    """The flags as HOCON texts; --set comes last and so wins. A number of steps takes away the time that a run had."""
    clouds = inputs(options)
    quality = QUALITIES.get(options.quality)
    exps_dir = None if options.exps_dir is None else str(options.exps_dir.absolute())
    flags = [
        ("--quality", "train.nepoch", quality and quality.steps),
        ("--quality", "plot.resolution", quality and quality.resolution),
        ("--input", "train.input_path", clouds[0] if len(clouds) == 1 else None),
        *reading(options),
        ("--steps/--nepoch", "train.nepoch", options.steps),
        ("--minutes", "train.time_budget", options.minutes),
        ("--resolution", "plot.resolution", options.resolution),
        ("--trim", "plot.trim", options.trim),
        ("--normals", "network.has_normals", options.normals),
        ("--points-batch", "train.points_batch", options.points_batch),
        ("--seed", "train.seed", options.seed),
        ("--expname", "train.expname", options.expname),
        ("--exps-dir", "train.exps_dir", exps_dir),
    ]
    texts = given(flags)
    if options.minutes is None and (options.steps is not None or quality is not None):
        flag = "--quality" if options.steps is None else "--steps/--nepoch"
        texts.insert(0, Override("train.time_budget = null", flag))
    if quality is not None and quality.resolution is None:
        texts.insert(0, Override("plot.resolution = null", "--quality"))
    return [*texts, *options.set]


def reading(options: argparse.Namespace) -> list[tuple[str, str, Any]]:
    """The flags of ``add_reading_flags``, each with its key and value."""
    return [
        ("--sample", "train.sample", options.sample),
        ("--crop", "train.crop", options.crop and numbers("--crop", options.crop, float)),
        ("--voxel", "train.voxel", options.voxel),
        ("--classes", "train.classes", options.classes and numbers("--classes", options.classes, int)),
        ("--min-opacity", "train.min_opacity", options.min_opacity),
        ("--sensor", "train.sensor", options.sensor and numbers("--sensor", options.sensor, float)),
        ("--stations", "train.stations", options.stations),
    ]


def flag_of(key: str, texts: Sequence[str | Override]) -> str:
    """The flag that a key of the configuration was set by, of those of ``overrides``; the key if it was by --set."""
    flags = [text.flag for text in texts if isinstance(text, Override) and text.text.startswith(f"{key} = ")]
    return flags[-1] if flags else key


def numbers(flag: str, text: str, kind: type[int] | type[float]) -> list[float | None]:
    """The numbers of a list with commas; None for what is empty.

    Raises:
        UserError: something else stands between the commas.
    """
    try:
        return [kind(part) if part.strip() else None for part in text.split(",")]
    except ValueError:
        raise UserError(f"{flag}: expected numbers with commas between them, got {text!r}") from None


def _number_or_word(text: str) -> float | str:
    """A flag that may be either."""
    try:
        return float(text)
    except ValueError:
        return text


def check_flags(options: argparse.Namespace, size: int) -> None:
    """Refuse flags that have no meaning together; ``size`` is the number of processes that torchrun started.

    Raises:
        UserError: some are given, or a cloud whose name is not UTF-8, which no configuration could hold.
    """
    for name in inputs(options):
        if any("\udc80" <= letter <= "\udcff" for letter in name):
            raise UserError(f"{name}: its name has bytes that are not UTF-8; rename it")
    if not options.timestamp:
        raise UserError("--timestamp is empty: name the run's folder, or leave it out")
    if not (options.eval or options.is_continue) and options.checkpoint != "latest":
        raise UserError("--checkpoint names something to load: add --eval or --is-continue")
    if options.eval and options.is_continue:
        raise UserError("--eval and --is-continue: one or the other; a run that is continued is also evaluated")
    if options.eval and size > 1:
        raise UserError("--eval is the work of one process: start it without torchrun")
    names_one = inputs(options) or options.conf != "setup.conf" or any("input_path" in text for text in options.set)
    if options.output is not None and not (names_one or options.eval or options.is_continue):
        raise UserError(f"--output {options.output}: of which cloud? Name it: phase-recon CLOUD -o {options.output}")
    check_length(options)


def check_flags_for_many(options: argparse.Namespace) -> None:
    """Refuse flags that have no meaning with many clouds.

    Raises:
        UserError: one is given.
    """
    if options.eval or options.is_continue or options.timestamp != "latest":
        raise UserError(
            "many clouds with --eval, --is-continue or --timestamp: the same command without them does what is "
            "missing; one of the runs is loaded by --timestamp <time of start>/<cloud>, without the many clouds"
        )
    if options.target or options.query:
        raise UserError("--target and --query are for one cloud: give one, or measure its run later with --eval")
    if options.jobs < 1:
        raise UserError(f"--jobs: expected at least 1, got {options.jobs}")
    if options.output is not None and options.output.suffix and not options.output.is_dir():
        raise UserError(f"--output {options.output}: many clouds need a folder; give a name without extension")
