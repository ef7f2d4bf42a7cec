"""The shapes of a space: their files, and what training draws from them, all in one frame.

The clouds are taken as aligned: none is moved, turned or scaled for itself. D-FAUST's processed scans, as IGR reads
them, are folders of folders of .npy files (N, 6), points and normals; ``_normalization.npy`` beside each is no shape.
"""

import glob
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.points import Domain, Normalisation
from phase_recon.model.loss.base import Loss
from phase_recon.model.sampling import Sampler
from phase_recon.reconstruction.batch_clouds import common_folder, find_clouds
from phase_recon.reconstruction.input_cloud import load_cloud
from phase_recon.reconstruction.preprocess import prepare
from phase_recon.reconstruction.progress import Announce
from phase_recon.reconstruction.scene import PreprocessSettings, Scene
from phase_recon.reconstruction.state import sampler_of
from phase_recon.shapespace.config import SpaceConfig
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import ROOT, find_file

Array = npt.NDArray[np.float64]

CLEARLY = 0.1  # × that of a ball whose normals point outward: an enclosed volume that is no chance
INWARD = "by the volume that its normals enclose they point inward; where nearly all do they are turned, else turn them"
BESIDE = "_normalization"  # of the files that D-FAUST's preprocessing writes beside each shape


def find_shapes(given: str | None, split: str | None) -> dict[str, Path]:
    """The files of the shapes, by names that tell them apart: their paths below the folder, without extensions.

    Args:
        given: train.input_path: a folder, a glob, @list, or a single cloud.
        split: train.data_split: a JSON file that names some of the folder's files, or None for all.

    Raises:
        UserError: nothing is given, there are none, two have one name, or the split is no split or names a file that is
            not there.
    """
    if given is None:
        raise UserError("train.input_path: not set; give the folder of the shapes with --input PATH")
    folder = find_file(given)
    if split is not None:
        return _of_split(folder, find_file(split))
    if not (folder.exists() or given.startswith("@") or glob.has_magic(given)):
        raise UserError(f"{given}: no such file or folder; check the path")
    files = [file for file in find_clouds(given, ROOT) if not file.stem.endswith(BESIDE)]
    if not files:
        raise UserError(f"{given}: names no shapes")
    common = common_folder(files)
    found: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(common).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{file} and {found[name]}: two shapes of one name; move or rename one")
        found[name] = file
    return found


def _of_split(folder: Path, path: Path) -> dict[str, Path]:
    """The files that a split in IGR's form names: {dataset: {folder: {folder: [name, ...]}}}."""
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
        names = [
            f"{human}/{action}/{name}"
            for humans in split.values()
            for human, actions in humans.items()
            for action, listed in actions.items()
            for name in listed
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        why = getattr(error, "strerror", None) or 'expected {"scans": {folder: {folder: [name, ...]}}}'
        raise UserError(f"train.data_split: {path}: cannot be read as a split ({why})") from None
    files = {name: folder / f"{name}.npy" for name in names}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if not files or missing:
        what = f"names {len(missing)} files that are not there, such as {missing[0]}" if missing else "names no shapes"
        raise UserError(f"train.data_split: {path}: {what}")
    return files


@dataclass(frozen=True)
class Shapes:
    """The training shapes.

    Attributes:
        names: of the shapes.
        scenes: what preprocessing made of each, in the frame of all.
        domain: that frame, and Ω.
        spacing: of the clouds, normalised: the median.
        noise: that is left in the points, normalised: the median.
        noise_shown: the same of clouds whose noise was told from their detail, 0 for the others: the median.
    """

    names: list[str]
    scenes: list[Scene]
    domain: Domain
    spacing: float
    noise: float
    noise_shown: float

    @property
    def fingerprint(self) -> dict[str, int]:
        """Of the clouds as they were given and of their names, by which a checkpoint knows them."""
        checksum = zlib.crc32("\n".join(self.names).encode())
        for scene in self.scenes:
            checksum = zlib.crc32(str(scene.cloud.fingerprint["checksum"]).encode(), checksum)
        return {"points": sum(scene.cloud.fingerprint["points"] for scene in self.scenes), "checksum": checksum}

    def samplers(self, config: SpaceConfig, loss: Loss, device: torch.device) -> list[Sampler]:
        """What draws the batches of each shape."""
        return [sampler_of(config.single, scene, loss, device, config.train.seed) for scene in self.scenes]


def located(config: SpaceConfig) -> SpaceConfig:
    """The configuration with absolute paths of its shapes and its split, by which another folder finds them, too."""
    def absolute(path: str | None) -> str | None:
        if path is None:
            return None
        return ("@" if path.startswith("@") else "") + str(find_file(path.removeprefix("@")).absolute())

    t = config.train
    return replace(config, train=replace(t, input_path=absolute(t.input_path), data_split=absolute(t.data_split)))


def load_shapes(config: SpaceConfig, announce: Announce) -> Shapes:
    """Read and prepare the training shapes.

    Raises:
        UserError: there are none, a file is no cloud, or clouds of two and of three dimensions are mixed.
    """
    files, scenes = find_shapes(config.train.input_path, config.train.data_split), list[Scene]()
    for name, file in files.items():
        cloud = load_shape(config, file, announce)
        if points_inward(cloud):
            announce(f"warning: {name}: {INWARD}, or the space learns this shape inside out")
        scenes.append(prepare_shape(config, cloud))
    if len(dimensions := {scene.dimension for scene in scenes}) > 1:
        raise UserError(f"{config.train.input_path}: holds clouds of 2 and of 3 dimensions: keep one kind")
    domain = domain_of(scenes, config.train.bounding_box_scale)
    scenes = [in_frame(scene, domain) for scene in scenes]
    points = sum(len(scene.points) for scene in scenes)
    announce(f"shapes: {len(scenes)}, {points} points in {dimensions.pop()}D")
    spacing = float(np.median([scene.scale.spacing for scene in scenes]))
    noise = float(np.median([scene.scale.noise_left for scene in scenes]))
    shown = float(np.median([scene.scale.noise_shown for scene in scenes]))
    return Shapes(list(files), scenes, domain, spacing, noise, shown)


def load_shape(config: SpaceConfig, path: Path, announce: Announce) -> PointCloud:
    """The cloud of one shape; what a user should know of how it was read is announced.

    Raises:
        UserError: it cannot be read, or has no normals where they are asked for.
    """
    single = config.single
    cloud, _ = load_cloud(replace(single, train=replace(single.train, input_path=str(path))), announce)
    if cloud.note:
        announce(f"note: {path.name}: {cloud.note}")
    return cloud


def points_inward(cloud: PointCloud) -> bool:
    """Whether the normals point inward, by the volume that they enclose (the divergence theorem); False without any."""
    if cloud.normals is None:
        return False
    offsets = cloud.points - cloud.points.mean(axis=0)
    enclosed, extent = (offsets * cloud.normals).sum(), np.linalg.norm(offsets, axis=1).sum()
    return bool(enclosed < -CLEARLY * extent)


def prepare_shape(config: SpaceConfig, cloud: PointCloud) -> Scene:
    """What preprocessing makes of the cloud of one shape, in a frame of its own."""
    return prepare(config.single, cloud)


def in_frame(scene: Scene, domain: Domain) -> Scene:
    """A scene in another frame and with another Ω."""
    before, after = scene.domain.normalisation, domain.normalisation
    ratio = before.scale / after.scale

    def moved(x: Array) -> Array:
        return after.apply(before.invert(x))

    points = replace(scene.points, positions=moved(scene.points.positions), opposite=scene.points.opposite * ratio)
    reference = moved(scene.reference)
    return replace(scene, domain=domain, reference=reference, points=points, scale=scene.scale.in_unit(ratio))


def domain_of(scenes: Sequence[Scene], bounding_box_scale: float) -> Domain:
    """The frame in which all scenes are in the unit ball, and the Ω about them all, as for a single one."""
    parts = [scene.domain.normalisation.invert(scene.points.positions) for scene in scenes]
    corners = np.concatenate([[part.min(axis=0), part.max(axis=0)] for part in parts])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    scale = max(float(np.linalg.norm(part - centre, axis=1).max()) for part in parts)
    normalisation = Normalisation(centre, scale)
    half = (corners.max(axis=0) - corners.min(axis=0)) / 2 / scale
    half = np.maximum(half * bounding_box_scale, half + PreprocessSettings().omega_margin)
    return Domain(normalisation, -half, half)
