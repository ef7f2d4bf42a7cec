"""What a user is told of a surface, by its measurements; ``findings`` has the same of a cloud."""

from typing import Any

from phase_recon.utils.config import FINEST_GRID

WARNED = 0.1  # share of the surface that is a guess, from which a run warns
SAID = 0.01  # the same, from which it is said
MISSED = 0.001  # share of the points that are far from the surface, from which that is said
MISSED_MUCH = 0.1  # the same, from which a run warns
NEARLY_ALL = 0.9  # share of the surface in its largest component, from which the others are said to be small
# Points for each handle, with fewer of which a run warns: a sheet with 54 holes had 92, in 5 000 points, and what
# much noise had made a sponge of, 18.
FOR_A_HANDLE = 50


def verdict(metrics: dict[str, Any], points: int) -> list[str]:
    """What came out, a line each, with warnings where it is not to be trusted.

    Args:
        metrics: the content of metrics.json; lengths are in the input's unit.
        points: of the cloud.
    """
    count, far, genus = metrics["components"], metrics["input"], metrics["genus"] or 0
    handles = f", {genus} handle{'' if genus == 1 else 's'}" if genus else ""
    lines = [
        f"surface: {'closed' if metrics['closed'] else 'OPEN'}, {count} connected "
        f"component{'' if count == 1 else 's'}{handles}; the points are {far['cloud_to_surface_mean']:.4g} from it on "
        f"average, {far['cloud_to_surface_max']:.4g} at most"
    ]
    if count > 1 and metrics["largest_component"] >= NEARLY_ALL:
        lines.append(
            f"note: one of the components is {metrics['largest_component']:.1%} of the surface: if the others came off "
            "at thin edges, the same command with --eval and a finer grid may join them (--resolution "
            f"{min(2 * metrics['resolution'], FINEST_GRID)}); --eval --set plot.keep_components=1 leaves them out"
        )
    if genus * FOR_A_HANDLE > points:
        lines.append(
            f"warning: {genus} handles are more than {points} points show: where noise is as wide as the points are "
            "apart, or normals are wrong, a surface looks like a sponge"
        )
    share, distance = far["surface_far_share"], f"{far['far']:.2g}"
    if far["cloud_far_share"] >= MISSED:
        kind = "warning" if far["cloud_far_share"] >= MISSED_MUCH else "note"
        lines.append(
            f"{kind}: {far['cloud_far_share']:.1%} of the points are farther than {distance} from the surface: "
            "outliers, noise, or a part of the surface is missing"
        )
    if share >= WARNED:
        lines.append(
            f"warning: {share:.0%} of the surface is farther than {distance} from all points, and so a guess; if the "
            "cloud is open, as terrain, a room or a single view is, the same command with --eval --trim open cuts that "
            "off, and training with --sensor=X,Y,Z mends sides that are wrong"
        )
    elif share >= SAID:
        lines.append(f"{share:.0%} of the surface is farther than {distance} from all points, and so a guess")
    if "target" in metrics:
        d_c, d_h = metrics["target"]["d_C"], metrics["target"]["d_H"]
        lines.append(f"to the target: d_C {d_c:.4g} (Chamfer distance), d_H {d_h:.4g} (Hausdorff distance)")
    return lines
