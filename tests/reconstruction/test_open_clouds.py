"""What a run says of a cloud that is open: no word on closed clouds, and what to do with terrain or a single view.

The surfaces are true ones, closed; of an open cloud, points lie on a part of them.
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, cKDTree

from conftest import Command
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.datasets.pointcloud import point_cloud
from phase_recon.reconstruction.field import load_field
from phase_recon.reconstruction.meshing import surface_of
from phase_recon.reconstruction.preprocess import ORIENTING, prepare
from phase_recon.reconstruction.training import fit
from phase_recon.reconstruction.verdict import WARNED
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import compare_to_points, sample_surface
from phase_recon.surface.surface import Surface
from phase_recon.surface.trim import SHOWN, guesses, shown_part, within
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import override

CLOSED = ["bracket", "plate", "fan", "hex_nut", "pipe_tee", "vase", "mug", "box_in_box", "torus", "chain", "knot",
          "stool"]  # fmt: skip
OPEN_PARTS = {  # of a shape: where it was seen, by places in its box (0 to 1) and normals
    "half a ring": ("torus", lambda x, n: x[:, 0] < 0.5),
    "one view of an ellipsoid": ("ellipsoid", lambda x, n: n[:, 0] > 0.1),
    "a ball without its top": ("ellipsoid", lambda x, n: x[:, 2] < 0.7),
    "hills seen from above": ("hills", lambda x, n: n[:, 2] > 0.1),
    "a pipe without its end": ("pipe_tee", lambda x, n: x[:, 0] < 0.6),
    "one view of a ring": ("torus", lambda x, n: n[:, 0] > 0.1),
}


def far_share(surface, keep=lambda x, n: np.full(len(x), True), noise=0.0):
    points, cells = sample_surface(surface, 4000, 0)
    low = surface.vertices.min(axis=0)
    points = points[keep((points - low) / np.ptp(surface.vertices, axis=0), surface.cell_normals()[cells])]
    points = points + np.random.default_rng(0).normal(0, noise, points.shape)
    return compare_to_points(surface, points, 20_000)["surface_far_share"]


@pytest.mark.parametrize("name", CLOSED)
def test_closed_clouds_are_not_called_open(name):
    surface = SHAPES[name].surface(0.05)
    assert far_share(surface) < 0.01
    assert far_share(surface, noise=0.01) < 0.01


@pytest.mark.parametrize("part", OPEN_PARTS)
def test_open_clouds_are(part):
    name, keep = OPEN_PARTS[part]
    assert far_share(SHAPES[name].surface(0.05), keep) > WARNED


def ball():
    surface = SHAPES["ellipsoid"].surface(0.02)
    return Surface(surface.vertices / np.abs(surface.vertices).max(axis=0), surface.cells)


def test_the_share_is_that_of_the_area():
    """Of a ball of radius 1 whose upper half was seen, it is the zone that is far enough below the rim."""
    points, _ = sample_surface(ball(), 20_000, 0)
    found = compare_to_points(ball(), points[points[:, 2] > 0], 100_000)
    assert found["cloud_far_share"] == 0
    moved = points[points[:, 2] > 0] * np.where(np.arange((points[:, 2] > 0).sum()) % 4 == 0, 1.2, 1.0)[:, None]
    assert compare_to_points(ball(), moved, 1000)["cloud_far_share"] == pytest.approx(0.25, abs=0.001)
    radius = math.hypot(1, 0.5)  # about the middle of the box of half a ball
    assert found["far"] == pytest.approx(0.05 * radius, rel=0.01)
    # a place at the height -h is as far from the rim as the chord to it
    reach = max(found["far"], 2 * math.sqrt(16 * 2 / 10_000 * 2))  # near a rim a neighbourhood is half a disc
    assert found["surface_far_share"] == pytest.approx((1 - reach) / 2, abs=0.03)


def test_a_part_of_a_curve_is_open_unless_it_is_said_to_be_closed(command: Command, tmp_path):
    """Of a third of a circle, what closes it is cut off; the run stays, and meshes it closed."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi / 3, 1000)
    part = 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.savetxt(tmp_path / "part.xyz", part)
    keys = ("--steps", 100, "--set", "train.start=winding", "-o", tmp_path / "auto.ply")
    first = command(tmp_path / "part.xyz", *keys)
    assert first.status == 0, first.err
    assert "of the closed surface; what they do not show is cut off (plot.trim = auto)" in first.out
    curve = read_surface(tmp_path / "auto.ply")
    assert not curve.is_closed()
    nearest, reach = cKDTree(part).query(curve.vertices)[0], cKDTree(part).query(part, [17])[0]
    assert nearest.max() <= SHOWN * reach.max()
    for trim, closed in (("closed", True), ("open", False), (3, False)):
        done = command("--eval", "--trim", trim, "-o", tmp_path / f"{trim}.ply")
        assert done.status == 0, done.err
        curve = read_surface(tmp_path / f"{trim}.ply")
        assert curve.is_closed() == closed
        assert "looks open" not in done.out
    assert np.linalg.norm(curve.vertices[:, None] - part, axis=2).min(axis=1).max() <= 3
    assert command("--eval", "--trim", 1e-9).err == (
        "error: --trim 1e-09 (plot.trim): nothing of the surface is so near to the points; give a larger "
        "distance, in the input's unit, or --trim closed\n"
    )
    assert command("--eval", "--trim", 0).err == (
        "error: --trim: expected more than 0, auto, open or closed, got 0.0\n"
    )
    assert command("--eval", "--trim", "wide").err == (
        "error: --trim = 'wide': expected a number or one of auto, open, closed\n"
    )


def test_an_outlier_shows_nothing_of_what_closes_an_open_curve(command: Command, tmp_path):
    """Of a third of a circle, with a point on the curve that closes it, where that is farthest off."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi / 3, 1000)
    part = 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    reach = cKDTree(part).query(part, [17])[0].max()
    keys = ("--steps", 100, "--set", "train.start=winding")
    np.savetxt(tmp_path / "part.xyz", part)
    assert command(tmp_path / "part.xyz", *keys).status == 0
    assert command("--eval", "--trim", "closed", "-o", tmp_path / "closed.ply").status == 0
    closing = read_surface(tmp_path / "closed.ply").vertices
    outlier = closing[cKDTree(part).query(closing)[0].argmax()]
    np.savetxt(tmp_path / "part.xyz", np.concatenate([part, outlier[None]]))
    for words in ((tmp_path / "part.xyz", *keys), ("--eval",)):
        done = command(*words, "-o", tmp_path / "open.ply")
        assert done.status == 0, done.err
        curve = read_surface(tmp_path / "open.ply")
        assert not curve.is_closed()
        assert cKDTree(part).query(curve.vertices)[0].max() <= SHOWN * reach


def square(nodes, at=0.0):
    """A flat square of side 2 at a height, as triangles of a regular grid."""
    ticks = np.linspace(-1, 1, nodes)
    x, y = (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing="ij"))
    corner = (np.arange(nodes - 1)[:, None] * nodes + np.arange(nodes - 1)).ravel()
    cells = [np.stack([corner, corner + nodes + a, corner + nodes * b + 1], axis=1) for a, b in ((0, 1), (1, 0))]
    up = np.tile([0.0, 0.0, 1.0], (len(x), 1))
    return Surface(np.stack([x, y, np.full(len(x), at)], axis=1), np.concatenate(cells), up)


def test_the_shown_part_ends_at_the_points_and_keeps_small_gaps():
    """Points on a lattice of step h in half of a square, but for one: its gap stays, the other half does not."""
    h = 0.05
    places = np.stack(np.meshgrid(np.arange(-1, 0.001, h), np.arange(-1, 1.001, h), indexing="ij"), -1).reshape(-1, 2)
    points = np.insert(places[np.abs(places - [-0.5, 0.0]).max(axis=1) > h / 2], 2, 0.0, axis=1)
    part = shown_part(square(201), points)
    # on an edge of a lattice the 16th other point is 3 h away
    assert part.vertices[np.abs(part.vertices[:, 1]) < 0.5, 0].max() == pytest.approx(SHOWN * 3 * h, abs=0.011)
    assert part.vertices[:, 0].min() == -1
    assert part.measure() == pytest.approx(2 * (1 + SHOWN * 3 * h), rel=0.02)
    assert part.components()[0] == 1
    assert part.euler_characteristic() == 1  # a disc, without a hole where the point is missing


def test_the_back_of_a_sheet_that_no_point_lies_on_is_not_shown_and_that_of_a_plate_is():
    """Two squares facing away from each other, nearer than the points on them are apart."""
    above, below = square(81, 0.01), square(81, -0.01)
    both = Surface(
        np.concatenate([above.vertices, below.vertices]),
        np.concatenate([above.cells, below.cells[:, ::-1] + len(above.vertices)]),
        np.concatenate([above.normals, -below.normals]),
    )
    assert above.cell_normals()[0, 2] == 1
    seen = np.append(np.random.default_rng(0).uniform(-1, 1, (1500, 2)), np.full((1500, 1), 0.01), axis=1)
    part = shown_part(both, seen)
    assert part.measure() == pytest.approx(4, rel=0.02)
    assert (part.vertices[:, 2] > 0).all()
    plate = np.concatenate([seen, seen[::-1] * [-1, 1, -1]])
    assert shown_part(both, plate).measure() == pytest.approx(8, rel=0.02)


def test_of_a_surface_without_points_in_a_large_hole_it_is_cut_out():
    places = np.random.default_rng(0).uniform(-1, 1, (100_000, 2))
    points = np.insert(places[np.linalg.norm(places, axis=1) > 0.5], 2, 0.0, axis=1)
    part = shown_part(square(201), points)
    assert part.euler_characteristic() == 0  # a ring
    share = compare_to_points(square(201), points, 100_000)["surface_far_share"]
    assert share == pytest.approx(np.pi * (0.5 - 0.05 * 2**0.5) ** 2 / 4, rel=0.03)


def test_points_that_come_many_times_show_what_they_show_once():
    points = np.insert(np.random.default_rng(0).uniform(-1, 1, (3000, 2)), 2, 0.0, axis=1)
    once, often = (shown_part(square(101), cloud) for cloud in (points, np.repeat(points, 20, axis=0)))
    assert once.measure() > 3.9
    np.testing.assert_array_equal(often.vertices, once.vertices)


def test_points_on_lines_far_apart_show_what_is_between_the_lines():
    """Lines 0.2 apart with points each 0.002 along them: along a line alone the reach of a point is 0.016."""
    lines, along = np.meshgrid(np.arange(-1, 1.001, 0.2), np.arange(-1, 1.0001, 0.002), indexing="ij")
    points = np.stack([lines.ravel(), along.ravel(), np.zeros(lines.size)], axis=-1)
    surface = square(101)
    assert shown_part(surface, points) is surface
    distances, guess, least = guesses(surface.vertices, points)
    assert distances.max() == pytest.approx(0.1)  # from all points, in the middle between two lines
    assert distances.max() > least
    assert not guess.any()


def test_a_surface_that_is_shown_is_returned_as_it_is():
    surface = square(41)
    assert shown_part(surface, surface.vertices) is surface


def test_cells_within_a_distance():
    triangles = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 0]]), np.array([[0, 1, 2], [1, 3, 2]]))
    kept = within(triangles, np.array([[0.0, 0, 0]]), 1.0 + 1e-9)
    assert kept.cells.tolist() == [[0, 1, 2]]
    assert len(kept.vertices) == 3


def test_a_surface_at_a_level_is_shown_by_points_as_far_from_it():
    """Dense and sparse halves of a sphere, meshed 0.07 outside: farther off than 1.4 × the dense half's reach."""
    points = np.random.default_rng(0).normal(size=(26_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points[(points[:, 2] > 0) | (np.arange(26_000) % 4 == 0)]
    directions = np.random.default_rng(1).normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hull = ConvexHull(directions)
    ball = Surface(1.07 * directions, hull.simplices.astype(np.int64), directions)
    assert shown_part(ball, points).measure() < 0.9 * ball.measure()
    assert shown_part(ball, points, level=0.07).measure() == ball.measure()


def hill(count=4000):
    """Ground with a hill in its middle, exact, in the input's units, and the height of the ground at places (N, 2)."""
    places = 200 * np.random.default_rng(0).random((count, 2))

    def height(xy):
        return 20 * np.exp(-((xy - 100) ** 2).sum(axis=1) / 1800)

    return np.c_[places, height(places)], height


def short_run(cloud, *texts):
    """The field of a short run with other settings, its configuration, and what it said."""
    lines = list[str]()
    config = override(Config().to_dict(), list(texts), source="", place="")
    field, _ = fit(config, cloud, torch.device("cpu"), lines.append)
    return field, config, "\n".join(lines)


@pytest.mark.parametrize(("up", "vertical"), [("z", 2), ("y", 1)])
def test_a_sheet_that_lies_has_its_outside_above_unless_a_sensor_says_otherwise(up, vertical):
    points = np.roll(hill()[0], vertical - 2, axis=1)
    config = override(Config().to_dict(), [f"plot.up={up}"], source="", place="")
    for mirrored in (points, points * np.where(np.arange(3) == vertical, -1, 1)):
        scene = prepare(config, point_cloud(mirrored), stages=ORIENTING)
        assert scene.is_sheet
        assert scene.points.oriented.mean() > 0.8
        assert scene.points.normals[scene.points.oriented, vertical].min() > 0.5
    below = np.zeros(3)
    below[vertical] = -1000
    scene = prepare(config, point_cloud(points, sensors=below), stages=ORIENTING)
    assert scene.points.normals[scene.points.oriented, vertical].max() < -0.5


def test_what_stands_or_is_a_body_is_not_turned():
    points = hill()[0]
    standing = point_cloud(np.roll(points, 1, axis=1))  # its vertical is an axis along it
    scenes = [prepare(Config(), standing, stages=stages) for stages in (ORIENTING[:-1], ORIENTING)]
    np.testing.assert_array_equal(scenes[0].points.normals, scenes[1].points.normals)
    body = prepare(Config(), point_cloud(sample_surface(ball(), 3000, 0)[0]), stages=ORIENTING)
    assert not body.is_sheet
    assert body.enclosed == pytest.approx(0.5, abs=0.06)


def body_on_a_plate(height=1.0, count=8000):
    """A cylinder of radius 0.4 on a round plate of radius 1, without what is between them."""
    random = np.random.default_rng(0)
    turn = random.uniform(0, 2 * np.pi, count)
    parts = np.array([2 * 0.4 * height, 0.16, 1 - 0.16])  # of the area: side, top and plate, in units of π
    part = random.choice(3, count, p=parts / parts.sum())
    square = random.uniform(np.choose(part, [0.16, 0.0, 0.16]), np.choose(part, [0.16, 0.16, 1.0]))
    z = np.choose(part, [random.uniform(0, height, count), np.full(count, height), np.zeros(count)])
    radius = np.sqrt(square)
    outward = np.where(part[:, None] == 0, np.c_[np.cos(turn), np.sin(turn), 0 * turn], [0.0, 0.0, 1.0])
    return np.c_[radius * np.cos(turn), radius * np.sin(turn), z], outward


@pytest.mark.parametrize(("axis", "height"), [(0, 1.0), (1, 0.3), (2, 1.0)])  # the vertical is y
def test_a_body_on_a_plate_is_what_is_enclosed(height, axis):
    points, outward = (np.roll(of, axis - 2, axis=1) for of in body_on_a_plate(height))
    scene = prepare(Config(), point_cloud(points), stages=ORIENTING)
    assert 0 < scene.enclosed < 0.25
    sure = scene.points.oriented
    assert sure.mean() > 0.8
    assert ((scene.points.normals * outward[scene.points.raw_index]).sum(axis=1)[sure] > 0).mean() > 0.98


def test_what_is_open_below_has_no_openings():
    """The winding number under a rim is low, as its other half is missing."""
    field, _, said = short_run(point_cloud(body_on_a_plate()[0]), "train.nepoch=150", "train.mend=false")
    assert "openings that the network had filled" not in said
    inside = np.array([[0.36, 0, 0.95], [0, 0.36, 0.95], [0, 0, 0.5]])
    assert field.w(inside).max() < 0


def room(count=6000):
    """The inside of a room of 4 × 5 × 2.7, and where a sensor stood in it."""
    random = np.random.default_rng(0)
    half = np.array([2.0, 2.5, 1.35])
    points = random.uniform(-1, 1, (count, 3))
    area = np.array([half[1] * half[2], half[0] * half[2], half[0] * half[1]])
    axis = random.choice(3, count, p=area / area.sum())
    points[np.arange(count), axis] = np.sign(points[np.arange(count), axis])
    return half * points, half, np.array([-0.3, -0.8, 0.2])


def test_a_room_seen_from_within_is_one_closed_surface_that_faces_the_sensor():
    points, half, sensor = room()
    cloud = point_cloud(points, sensors=sensor)
    field, config, said = short_run(cloud, "train.nepoch=150")
    assert "the sensor positions tell which side of the points is outside" in said
    assert "sign" not in said
    assert "going on from the start" not in said
    assert field.w(np.array([sensor, [0, 0, 0]])).min() > 0.3
    assert field.w(np.array([[0, 0, 1.6], [0, 2.8, 0], [2.3, 0, 0]])).max() < 0
    walls = surface_of(field, cloud, config.plot)
    assert walls.is_closed()
    assert (walls.components()[0], walls.euler_characteristic()) == (1, 2)
    centres = walls.vertices[walls.cells].mean(axis=1)
    facing = ((sensor - centres) * walls.cell_normals()).sum(axis=1) > 0
    assert walls.cell_measures()[facing].sum() > 0.999 * walls.measure()
    assert np.abs(np.abs(walls.vertices / half).max(axis=1) - 1).max() < 0.1


def test_a_run_of_a_room_keeps_its_sides_in_its_checkpoint(command: Command, tmp_path):
    points, _, sensor = room(1500)
    np.save(tmp_path / "room.npy", points)
    out = command(
        "--input", tmp_path / "room.npy", f"--sensor={','.join(map(str, sensor))}", "--nepoch", 20,
        "--set", "train.start=winding", "--set", "train.estimate_normals=true",
    )  # fmt: skip
    assert out.status == 0, out.err
    (checkpoint,) = tmp_path.rglob("checkpoints/20.pth")
    assert load_field(checkpoint).w(sensor[None])[0] > 0


def test_ground_comes_out_in_one_piece_without_a_hole():
    """Nothing is taken for an opening that was filled, and the sheet goes on through the walls of Ω."""
    points, height = hill()
    cloud = point_cloud(points)
    field, config, said = short_run(cloud, "train.nepoch=200")
    assert "note: the points are an open sheet, whose shape does not say which side is outside" in said
    assert "openings that the network had filled" not in said
    assert "going on from the start" not in said
    sheet = surface_of(field, cloud, config.plot)
    within = (np.abs(sheet.vertices[:, :2] - 100) < 95).all(axis=1)
    assert np.abs(sheet.vertices[within, 2] - height(sheet.vertices[within, :2])).max() < 1
    assert sheet.components()[0] == 1
    edges, faces = np.unique(np.sort(sheet.edges().reshape(-1, 2), axis=1), axis=0, return_counts=True)
    assert not within[edges[faces == 1]].any()  # its only end is its rim
    assert cKDTree(sheet.vertices).query(points)[0].max() < 5
    assert sheet.normals is not None
    assert sheet.normals[within, 2].min() > 0.5
