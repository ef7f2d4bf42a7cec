"""Pictures of spheres and plates, whose outlines, colours and shadows are known."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import trimesh

from phase_recon.report.render import BACK, FRONT, View, balls, render_views
from phase_recon.surface.surface import Surface

Image = npt.NDArray[np.uint8]
AHEAD = View(0.0, 0.0)


def sphere(radius: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0)) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=5)
    return Surface(radius * np.asarray(mesh.vertices) + centre, np.asarray(mesh.faces, dtype=np.int64))


def picture(surface: Surface, view: View = AHEAD, **given: object) -> Image:
    return render_views([(surface, view)], width=200, height=200, **given)[0]


def foreground(image: Image) -> npt.NDArray[np.bool_]:
    return (image < 250).any(axis=-1)


def test_a_sphere_fills_its_share_of_the_image_as_a_disc():
    image = render_views([(sphere(), FRONT)], width=300, height=200)
    assert image.shape == (1, 200, 300, 3)
    assert image.dtype == np.uint8
    seen = foreground(image[0])
    assert seen.sum() == pytest.approx(np.pi / 4 * (0.94 * 200) ** 2, rel=0.01)
    assert np.argwhere(seen).mean(axis=0) == pytest.approx([99.5, 149.5], abs=0.3)


def test_one_scale_for_all_shots():
    big, small = render_views([(sphere(1.0), AHEAD), (sphere(0.5), AHEAD)], width=200, height=200)
    # a ball of radius r at distance D is seen as a disc of radius r / sqrt(D^2 - r^2)
    expected = (1 / (25 - 1)) / (0.25 / (25 - 0.25))
    assert foreground(big).sum() / foreground(small).sum() == pytest.approx(expected, rel=0.02)


def test_light_comes_from_the_upper_left_and_in_every_view():
    for view in (FRONT, BACK, View(70, -40)):
        image = picture(sphere(), view).mean(axis=-1)
        assert image[70, 70] > image[130, 130] + 30


def test_edges_are_smoothed():
    row = picture(sphere())[100].astype(int).sum(axis=1)
    assert len(np.unique(row[:12])) >= 3  # white, a mixture, the surface


@pytest.mark.parametrize(
    ("up", "view", "axis", "where"),
    [
        ("y", AHEAD, (1, 0, 0), "right"),
        ("y", AHEAD, (0, 1, 0), "top"),
        ("y", View(90, 0), (0, 0, -1), "right"),
        ("y", View(180, 0), (-1, 0, 0), "right"),
        ("y", View(0, 89), (0, 0, -1), "top"),
        ("z", AHEAD, (1, 0, 0), "right"),
        ("z", AHEAD, (0, 0, 1), "top"),
        ("z", View(90, 0), (0, 1, 0), "right"),
    ],
)
def test_what_is_where(up, view, axis, where):
    ball = sphere()
    red = ball.vertices @ np.array(axis) > 0.05
    painted = replace(ball, colours=np.where(red[:, None], [200, 20, 20], [20, 20, 200]).astype(np.uint8))
    image = picture(painted, view, up=up)
    is_red = foreground(image) & (image[..., 0] > image[..., 2])
    is_blue = foreground(image) & (image[..., 0] < image[..., 2])
    rows, columns = np.indices(is_red.shape)
    place = columns if where == "right" else -rows
    assert place[is_red].mean() > place[is_blue].mean() + 50
    assert is_red.sum() == pytest.approx(is_blue.sum(), rel=0.25)


@pytest.mark.parametrize("up", ["y", "z"])
def test_camera_axes_are_a_rotation(up):
    for view in (FRONT, BACK, View(20, 70)):
        axes = view.axes(up)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)
    front = {"y": [0, 0, 1], "z": [0, -1, 0]}[up]
    np.testing.assert_allclose(AHEAD.axes(up)[2], front, atol=1e-12)


def test_the_back_of_a_surface_is_brown():
    ball = sphere()
    outside, inside = picture(ball)[100, 100], picture(replace(ball, cells=ball.cells[:, ::-1]))[100, 100]
    assert outside[2] > outside[0]
    assert inside[0] > inside[2] + 30


def test_normals_of_triangles_stand_in_for_missing_ones():
    ball = sphere()
    given = picture(replace(ball, normals=ball.vertices))
    assert np.abs(given.astype(int) - picture(ball)).mean() < 0.5
    turned = picture(replace(ball, normals=-ball.vertices[:, [1, 2, 0]]))
    assert np.abs(given.astype(int) - turned).mean() > 10


def test_a_ball_casts_a_shadow():
    floor = np.array([[-3.0, -1, -3], [3, -1, -3], [3, -1, 3], [-3, -1, 3]])
    ball = sphere(0.5)
    cells = np.concatenate([ball.cells, len(ball.vertices) + np.array([[0, 2, 1], [0, 3, 2]])])
    both = Surface(np.concatenate([ball.vertices, floor]), cells)
    view = View(0, 60)
    alone = picture(Surface(both.vertices, cells[-2:]), view).astype(int).sum(axis=-1)
    darker = picture(both, view).astype(int).sum(axis=-1) < alone - 60
    columns = np.nonzero(darker)[1]
    assert darker.sum() > 100
    assert columns.max() > 115  # the light stands on the left, so the shadow falls to the right
    assert columns.min() > 70


def test_far_from_zero_and_in_any_units_the_picture_is_the_same():
    here, there = sphere(), sphere(1e-3, (5e5, 4.6e6, 300.0))
    difference = np.abs(picture(here).astype(int) - picture(there))
    assert np.mean(difference) < 0.5


def test_a_cloud_is_drawn_as_balls():
    points = np.array([[-1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    cloud = Surface(points, np.empty((0, 3), dtype=np.int64))
    image = render_views([(cloud, AHEAD)], width=1000, height=1000)[0]
    seen = foreground(image)
    pixel = 0.94 * 1000 / (2 / 5)  # per unit at distance 1; the points are 5 away
    radius = 0.006 * np.hypot(1, 0.5) * pixel / 5
    assert 3 * np.pi * (0.8 * radius) ** 2 < seen.sum() < 3 * np.pi * (radius + 0.7) ** 2
    red, _, blue = image[seen].mean(axis=0)
    assert red > blue + 50


def test_balls_keep_their_points_and_colours():
    points = np.array([[0.0, 0, 0], [5, 5, 5]])
    colours = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    drawn = balls(points, colours, 0.1)
    assert drawn.components()[0] == 2
    assert drawn.is_closed()
    np.testing.assert_allclose(drawn.vertices.reshape(2, -1, 3).mean(axis=1), points, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(drawn.vertices[:12], axis=1), 0.1)
    assert drawn.colours is not None
    np.testing.assert_array_equal(drawn.colours[[0, -1]], colours)
