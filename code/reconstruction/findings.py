"""What a user is told of what the preprocessing found of a cloud, before the first step."""

from phase_recon.datasets.pointcloud import FLAT
from phase_recon.geometry.layers import layers
from phase_recon.geometry.points import Source
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.errors import UserError, counted

THIN = 0.05  # × bounding radius: a body thinner than this is likely to come out wrong,
NEEDLE = 0.025  # and one thinner than this along two axes in several components
# Share of the given normals that point outward, below which the user is warned. Of right normals it was 1 on 12 of 15
# closed clouds, the least on thin walls with noise.
MIXED = 0.9
MIXED_SHEET = 0.75  # the same of a sheet, whose shape says less of its sides
LAYERED = 0.01  # share of the points with another layer of the same surface, from which the user is warned
MEASURABLE = 1e-6  # of the cloud's radius: noise below this is rounding, of files in single precision too


def findings(scene: Scene) -> list[str]:
    """What was found of a cloud, a line each.

    Raises:
        UserError: it is a needle, or flat but for its outliers.
    """
    lines: list[str] = []
    source, unit, points, scale = scene.cloud.source, scene.domain.normalisation.scale, scene.points, scene.scale
    thickness = float(scene.extents[0])
    if scene.dimension == 3 and scene.extents[1] < NEEDLE:
        raise UserError(
            f"{source}: the cloud is a needle, {scene.extents[1] * unit:.3g} by {thickness * unit:.3g} thick "
            f"and {scene.extents[2] * unit:.3g} long: finer than the field resolves, it would come in pieces; stretch "
            "it across, say tenfold, and shrink the mesh as much"
        )
    if thickness <= FLAT * scene.extents[-1]:
        lies, needs = ("in one plane", "surface encloses a volume") if scene.dimension == 3 else (
            "on one straight line", "curve encloses an area")  # fmt: skip
        raise UserError(
            f"{source}: the points that are no outliers lie {lies}: a closed {needs}; if the {scene.dropped} others "
            "belong to the shape, --set train.drop_outliers=false keeps them"
        )
    if scene.dropped:
        lines.append(
            f"{counted(scene.dropped, 'point')} far from all others left out, as outliers (train.drop_outliers = false "
            "keeps them)"
        )
    if note := arrangement_note(scene):
        lines.append(note)
    if warning := sensor_warning(scene):
        lines.append(warning)
    elif scene.sensors_believed:
        lines.append("the sensor positions tell which side of the points is outside")
    elif scene.normals == "estimated" and scene.is_sheet:
        lines.append(
            "note: the points are an open sheet, whose shape does not say which side is outside: of one that lies, as "
            "terrain does, it is the upper side (plot.up); --sensor=X,Y,Z tells another"
        )
    if scene.crowded:
        share = scene.crowded / (scene.crowded + len(scene.reference))
        lines.append(
            f"note: much of the surface is sparser than most points are: {share:.0%} of them, in dense parts, are not "
            "trained on, and only their detail counts"
        )
    if scene.outward is not None and scene.outward < scene.settings.inward:
        lines.append("note: the cloud's normals point inward, so they are turned round")
    elif scene.outward is not None and scene.outward < (MIXED_SHEET if scene.is_sheet else MIXED):
        lines.append(
            f"warning: by the cloud's shape only {scene.outward:.0%} of its normals point outward, and where they are "
            "wrong, the surface will be: --no-normals does without them"
        )
    if scene.shows_surface:
        lines.append(noise_in_words(scale.noise, unit, scale.denoised))
    if scene.blurred is not None:
        noise = scene.blurred.scale.noise
        lines.append(
            f"warning: {scene.blurred.part.mean():.0%} of the points, in one or several parts, are much noisier than "
            f"the rest: {noise * unit:.3g}, {noise:.2g} of the radius; they are moved towards the surface by more "
            "neighbours, and show no detail"
        )
    scanned = scene.normals == "estimated" and scene.dimension == 3
    doubled, apart = layers(points.measured) if scanned else (0.0, 0.0)
    if doubled >= LAYERED:
        lines.append(
            f"warning: {doubled:.0%} of the points have others behind or before them, {apart * unit:.2g} apart, that "
            "face the same way, as scans do that are badly registered: the surface lies between them, and where it "
            "cannot, it comes in layers, with pits and handles; register the scans again"
        )
    if not scene.settings.noise.tells_noise(len(scene.reference)):
        lines.append(
            f"warning: {len(scene.reference)} different points are too few to tell what is noise: the surface goes "
            "through them, and what lies between is a guess; a hundred or more show a shape"
        )
    if not scene.shows_surface and scene.normals != "given":
        lines.append(
            "warning: no neighbourhood of the points looks like a surface, as their noise, or what lies between them, "
            "is as large as parts of the shape: these will be rough or wrong; more or better points help, or --normals"
        )
    if creased := points.count(Source.CREASE):
        lines.append(f"{counted(creased, 'point')} added on sharp edges (train.find_creases)")
    if (filled := points.count(Source.HOLE)) and (surface := scene.coarse_surface):
        area = surface.filling_areas.sum() * unit ** (scene.dimension - 1)
        lines.append(
            f"{counted(filled, 'point')} added to close holes of the cloud (holes: {surface.holes}; area: {area:.3g} "
            f"in all; farthest from a point: {surface.farthest * unit:.3g}; train.fill_openings)"
        )
    if thickness < THIN:
        lines.append(
            f"warning: the cloud is {thickness * unit:.3g} thick at most, {thickness:.2g} of its radius: a "
            "body so thin may come in pieces, or leave Ω; a smaller network.loss.epsilon and a finer plot.resolution "
            "may help, or to stretch it across and to shrink the mesh as much"
        )
    return lines


def arrangement_note(scene: Scene) -> str | None:
    """What a user should know of points that are not spread over a surface; None if they are."""
    if scene.arrangement == "lines":
        return (
            f"note: the points lie on lines that are far apart: {len(scene.kept)} of them are used, about as far apart "
            "along the lines"
        )
    if scene.arrangement == "volume":
        return (
            f"warning: the points fill a volume, where those of a surface are expected: only the {len(scene.kept)} on "
            "its outside are used"
        )
    return None


def sensor_warning(scene: Scene) -> str | None:
    """What a user should know of sensor positions that are not used; None if there is nothing to say."""
    agreement = scene.sensors_agree
    if scene.cloud.sensors is None or scene.normals == "given" or scene.sensors_believed:
        return None
    if scene.normals != "estimated":
        return "note: the sensor positions are not used, as the points show no normals"
    said = "the cloud hides points from the sensor that is said to have seen them" if agreement is None else (
        f"only {agreement:.0%} of the points face the sensor that is said to have seen them, and the cloud hides "
        "others from it")  # fmt: skip
    return (
        f"warning: {said}: the sensor positions are wrong, in another order or unit than the points, or "
        "there were more of them (--stations); they are not used"
    )


def noise_in_words(noise: float, scale: float, smoothed: bool) -> str:
    """What a user should know of a cloud's noise.

    Args:
        noise: standard deviation of the points about the surface, normalised.
        scale: the cloud's radius, in the units of the input.
        smoothed: whether the points are moved because of it.
    """
    if noise < MEASURABLE:
        return "estimated noise: below what can be measured"
    moved = "; the points are moved towards the surface (train.smooth_points)" if smoothed else ""
    return f"estimated noise: {noise * scale:.3g} in the units of the cloud, {noise:.2g} of its radius{moved}"
