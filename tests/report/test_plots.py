"""Pictures of circles, spheres and made-up logs: their sizes, and colours counted where they must be."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import trimesh
from matplotlib.colors import to_rgb
from PIL import Image

from phase_recon.report.plots import (
    DOTS,
    FILL,
    PlaneField,
    cross_section_picture,
    fields_picture,
    loss_curves,
    render_side_by_side,
    render_surface,
)
from phase_recon.surface.surface import Surface, polylines
from phase_recon.utils.arrays import thinned
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_whole

Array = npt.NDArray[np.float64]
NO_TRIANGLES = np.empty((0, 3), dtype=np.int64)


def ring(radius: float, count: int = 200, turn: int = 1) -> Surface:
    angle = turn * np.linspace(0, 2 * np.pi, count, endpoint=False)
    numbers = np.arange(count)
    vertices = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Surface(vertices, np.stack([numbers, np.roll(numbers, -1)], axis=1))


def joined(*parts: Surface) -> Surface:
    starts = np.cumsum([0, *(len(p.vertices) for p in parts)])
    cells = [p.cells + start for p, start in zip(parts, starts, strict=False)]
    return Surface(np.concatenate([p.vertices for p in parts]), np.concatenate(cells))


def sphere() -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=4)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int64))


def pixels(path: Path) -> npt.NDArray[np.int64]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(np.int64)


def count(image: npt.NDArray[np.int64], colour: str, tolerance: int = 2) -> int:
    """How many pixels have a colour."""
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return int((np.abs(image - wanted).max(axis=-1) <= tolerance).sum())


def ink(image: npt.NDArray[np.int64]) -> float:
    """The part of the pixels that are not white."""
    return float((image < 250).any(axis=-1).mean())


# --- surfaces


def test_a_mesh_is_seen_from_both_sides(tmp_path):
    render_surface(tmp_path / "s.png", sphere(), size=(400, 200))
    image = pixels(tmp_path / "s.png")
    assert image.shape == (200, 400, 3)
    for half in (image[:, :200], image[:, 200:]):
        assert ink(half) == pytest.approx(np.pi / 4 * 0.94**2, rel=0.03)


def test_points_come_in_a_panel_of_their_own(tmp_path):
    ball = sphere()
    render_surface(tmp_path / "s.png", ball, ball.vertices[::20], size=(600, 200))
    image = pixels(tmp_path / "s.png")
    cloud, front, back = image[:, :200], image[:, 200:400], image[:, 400:]
    assert 0.003 < ink(cloud) < 0.2
    assert ink(front) == pytest.approx(ink(back), rel=0.02)
    seen = cloud[(cloud < 250).any(axis=-1)].mean(axis=0)
    assert seen[0] > seen[2] + 15  # small as they are here, the points are orange


def test_values_are_colours_with_a_bar(tmp_path):
    ball = sphere()
    values = np.where(ball.vertices[:, 1] > 0, 1.0, 0.0)
    render_surface(tmp_path / "s.png", ball, values=values, label="error", size=(520, 200))
    image = pixels(tmp_path / "s.png")
    assert ink(image[:, 410:]) > 0.02  # the bar
    top, bottom = image[40, 100], image[150, 100]
    assert top[0] > 2 * top[1]  # dark red
    assert bottom[1] > 0.7 * bottom[0]  # pale yellow


def test_side_by_side_has_one_scale_and_titles(tmp_path):
    ball = sphere()
    small = Surface(0.5 * ball.vertices, ball.cells)
    cloud = Surface(ball.vertices[::10], NO_TRIANGLES)
    render_side_by_side(tmp_path / "s.png", {"scan": cloud, "big": ball, "small": small}, size=(600, 236))
    image = pixels(tmp_path / "s.png")
    assert image.shape == (236, 600, 3)
    titles, body = image[:36], image[36:]
    assert all((titles[:, 200 * k : 200 * (k + 1)] < 100).any() for k in range(3))
    assert ink(body[:, 200:400]) / ink(body[:, 400:]) == pytest.approx(4.125, rel=0.05)


def test_side_by_side_shares_the_colours_of_values(tmp_path):
    ball = sphere()
    ones = np.ones(len(ball.vertices))
    values = {"bad": ones, "good": 0.1 * ones}
    render_side_by_side(tmp_path / "s.png", dict.fromkeys(values, ball), values=values, size=(520, 236))
    image = pixels(tmp_path / "s.png")
    bad, good = image[136, 100], image[136, 300]
    assert bad[1] < 60 < 100 < good[1]


def test_values_that_are_all_zero_are_drawn(tmp_path):
    render_surface(tmp_path / "s.png", ring(1.0), values=np.zeros(200), size=(400, 300))
    assert count(pixels(tmp_path / "s.png"), FILL) > 1000


def test_a_curve_is_filled_but_for_its_holes(tmp_path):
    render_surface(tmp_path / "disc.png", ring(1.0), size=(500, 500))
    render_surface(tmp_path / "annulus.png", joined(ring(1.0), ring(0.5, turn=-1)), size=(500, 500))
    disc, annulus = (count(pixels(tmp_path / name), FILL) for name in ("disc.png", "annulus.png"))
    side = 500 - 1.5 * 48  # pixels for 2.2 units: the curve and 5 % of its size on either side
    assert disc == pytest.approx(np.pi * (side / 2.2) ** 2, rel=0.03)
    assert annulus / disc == pytest.approx(0.75, abs=0.02)  # less the lines


def test_an_open_curve_is_not_filled(tmp_path):
    curve = ring(1.0)
    render_surface(tmp_path / "s.png", Surface(curve.vertices, curve.cells[:-20]), size=(300, 300))
    image = pixels(tmp_path / "s.png")
    assert count(image, FILL) == 0
    assert ink(image) > 0.01


def test_points_lie_on_the_curve_and_widen_the_picture(tmp_path):
    render_surface(tmp_path / "s.png", ring(1.0), np.array([[3.0, 0.0], [-3.0, 0.0]]), size=(500, 500))
    image = pixels(tmp_path / "s.png")
    columns = np.nonzero(np.abs(image - 255 * np.array(to_rgb(DOTS))).max(axis=-1) < 3)[1]
    assert columns.min() < 80
    assert columns.max() > 440


def test_polylines_follow_closed_and_open_curves():
    square = Surface(np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), np.array([[2, 3], [0, 1], [3, 0], [1, 2]]))
    (line,) = polylines(square)
    assert len(line) == 5
    assert line[0] == line[-1]
    assert np.abs(np.diff(square.vertices[line], axis=0)).sum() == 4
    (part,) = polylines(Surface(square.vertices, square.cells[:3]))
    assert part == [2, 3, 0, 1]
    assert [len(line) for line in polylines(joined(ring(1, 30), ring(2, 40)))] == [31, 41]


def test_thinned_keeps_all_or_a_spread_few():
    points = np.arange(3000.0).reshape(1000, 3)
    assert thinned(points, 1000) is points
    few = thinned(points, 100)
    assert len(np.unique(few[:, 0])) == 100
    assert set(few[:, 0]) <= set(points[:, 0])
    assert few[:, 0].mean() == pytest.approx(1498.5, rel=0.2)
    np.testing.assert_array_equal(few, thinned(points, 100))


# --- fields of the plane


def test_fields_stand_in_rows_against_their_distance(tmp_path):
    asked: list[Array] = []

    def spied(points: Array) -> Array:
        asked.append(points)
        return distance(points)

    def ideal(values: Array) -> Array:
        return np.sign(values) * (1 - np.exp(-np.abs(values) / 0.1))

    lower, upper = np.array([-2.0, -1.5]), np.array([2.0, 1.5])
    right = PlaneField(transition, distance, spied, ideal)
    wrong = PlaneField(lambda x: -transition(x), lambda x: -distance(x), distance, ideal)
    fields_picture(tmp_path / "f.png", {"right": right, "wrong": wrong}, lower, upper, resolution=40)
    picture = pixels(tmp_path / "f.png")
    assert picture.shape == (540, 1200, 3)
    (points,) = asked  # the distance is asked for once, at points all over the box
    assert (points.min(axis=0) < 0.95 * lower).all()
    assert (points.max(axis=0) > 0.95 * upper).all()

    # the dots of w against the distance rise in the first row, where w is the distance, and fall in the second
    dots = (picture[..., 0].astype(int) - picture[..., 2] > 60)[:, 920:]
    tilts = [np.corrcoef(*np.nonzero(part)[::-1])[0, 1] for part in (dots[:270], dots[270:])]
    assert tilts == [pytest.approx(-1, abs=0.1), pytest.approx(1, abs=0.1)]  # rows of pixels count downwards
    # the outside is red in the first row, blue in the second
    corner = picture[:, 60:250].astype(int)
    red = (corner[..., 0] - corner[..., 2] > 80).sum(axis=1)
    blue = (corner[..., 2] - corner[..., 0] > 80).sum(axis=1)
    assert red[:270].sum() > blue[:270].sum()
    assert red[270:].sum() < blue[270:].sum()


# --- cuts


def distance(points: Array) -> Array:
    return np.linalg.norm(points, axis=1) - 1


def transition(points: Array) -> Array:
    w = distance(points)
    return np.sign(w) * (1 - np.exp(-np.abs(w) / 0.1))


def test_cuts_look_at_the_planes_through_the_middle(tmp_path):
    seen: list[Array] = []

    def field(points: Array) -> Array:
        seen.append(points)
        return points[:, 0] - 2.0

    lower, upper = np.array([0.0, 10, 20]), np.array([4.0, 12, 21])
    cross_section_picture(tmp_path / "c.png", field, field, lower, upper, np.empty((0, 3)), resolution=8)
    assert pixels(tmp_path / "c.png").shape == (1000, 1620, 3)
    assert [len(points) for points in seen] == [9 * 5, 9 * 3, 5 * 3] * 2
    for points, axis in zip(seen, [2, 1, 0] * 2, strict=True):
        np.testing.assert_array_equal(points[:, axis], ((lower + upper) / 2)[axis])
        others = [k for k in range(3) if k != axis]
        np.testing.assert_array_equal(points[:, others].min(axis=0), lower[others])
        np.testing.assert_array_equal(points[:, others].max(axis=0), upper[others])


@pytest.mark.parametrize("d", [2, 3])
def test_cuts_show_both_signs_and_the_points_of_the_slice(tmp_path, d):
    on_plane, off_plane = np.zeros((1, d)), np.full((1, d), 0.7)
    box = np.full(d, -1.5), np.full(d, 1.5)
    given = {"resolution": 32}
    cross_section_picture(tmp_path / "c.png", transition, distance, *box, on_plane, **given)
    image = pixels(tmp_path / "c.png")
    assert image.shape == (1000, 500 * (3 if d == 3 else 1) + 120, 3)
    red, blue = image[..., 0] - image[..., 2] > 60, image[..., 2] - image[..., 0] > 60
    assert red.mean() > 0.1
    assert blue.mean() > 0.1
    assert count(image, "#20a040") >= 6
    cross_section_picture(tmp_path / "c.png", transition, distance, *box, off_plane, **given)
    assert (count(pixels(tmp_path / "c.png"), "#20a040") >= 6) == (d == 2)  # in 2D nothing is off the plane


def test_the_zero_level_is_a_black_circle(tmp_path):
    box = np.full(2, -1.5), np.full(2, 1.5)
    none = np.empty((0, 2))
    cross_section_picture(tmp_path / "zero.png", transition, distance, *box, none, resolution=64)
    cross_section_picture(tmp_path / "none.png", lambda x: transition(x) + 2, lambda x: distance(x) + 2, *box, none)
    black = [count(pixels(tmp_path / name), "black", 40) for name in ("zero.png", "none.png")]
    assert black[0] > black[1] + 1500


def test_a_constant_field_is_drawn(tmp_path):
    box = np.full(2, -1.0), np.full(2, 1.0)
    cross_section_picture(tmp_path / "c.png", lambda x: 0 * x[:, 0], lambda x: 0 * x[:, 0], *box, np.empty((0, 2)))
    assert ink(pixels(tmp_path / "c.png")) > 0.02


def test_a_field_that_is_not_finite_is_said(tmp_path):
    def broken(points: Array) -> Array:
        return np.where(points[:, 0] > 0.99, np.nan, distance(points))

    box = np.full(2, -1.0), np.full(2, 1.0)
    with pytest.raises(UserError, match=r"c\.png: w is not finite at 5 of 25 points of the cross-sections; .*lower"):
        cross_section_picture(tmp_path / "c.png", transition, broken, *box, np.empty((0, 2)), resolution=4)
    assert list(tmp_path.iterdir()) == []


# --- losses


def record(epoch: int, **terms: float) -> dict[str, float]:
    return {"epoch": epoch, "loss": 2.0 / epoch, "lr": 1e-3 / epoch, "time": float(epoch)} | terms


def test_every_term_has_its_line(tmp_path):
    one = [record(k, recon=1.5 / k) for k in range(1, 40)]
    two = [record(k, recon=1.5 / k, **({"normal": 0.5 / k} if k > 20 else {})) for k in range(1, 40)]
    loss_curves(tmp_path / "one.png", one)
    loss_curves(tmp_path / "two.png", two)
    first, second = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert first.shape == (700, 1100, 3)
    assert count(first, "tab:blue", 30) > 200
    assert count(first, "tab:orange", 30) == 0
    # the second term begins half-way through the epochs; look beneath the legend
    columns = np.nonzero(np.abs(second[150:] - 255 * np.array(to_rgb("tab:orange"))).max(axis=-1) < 30)[1]
    assert len(columns) > 100
    assert columns.min() > 550


def test_a_term_that_is_not_positive_and_a_missing_rate_are_gaps(tmp_path):
    records = [{"epoch": 1, "loss": 1.0, "recon": 0.0}, {"epoch": 2, "loss": 0.5, "recon": -1.0}]
    loss_curves(tmp_path / "l.png", records)
    image = pixels(tmp_path / "l.png")
    assert count(image[:, :900], "tab:blue", 30) == 0
    assert count(image, "black", 30) > 300


def test_an_empty_log_is_said(tmp_path):
    with pytest.raises(UserError, match=r"l\.png: the log holds no records.*train first"):
        loss_curves(tmp_path / "l.png", [])


# --- files


def test_a_picture_replaces_an_older_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "l.png"
    path.write_text("old")
    loss_curves(path, [record(1), record(2)])
    assert list(tmp_path.iterdir()) == [path]
    assert pixels(path).size


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/a\.png: cannot be written \(No such file.*another folder"):
        write_whole(tmp_path / "nowhere" / "a.png", b"x")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_whole(tmp_path / "b", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_file_keeps_who_may_read_it_and_a_long_name_is_one(tmp_path):
    path = tmp_path / ("像" * 84)  # 252 bytes of 255
    write_whole(path, b"old")
    path.chmod(0o600)
    write_whole(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
