"""The checked cloud, its normalisation, and the sample clouds that are shipped."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.geometry.points import Normalisation
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import distance_to_surface, signed_distance
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]
DATA = Path(__file__).resolve().parents[2] / "data"


def sphere(n: int = 50, d: int = 3) -> Array:
    x = np.random.default_rng(1).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def save(folder: Path, values: Array, name: str = "scan.xyz") -> Path:
    path = folder / name
    np.savetxt(path, values, fmt="%.17g")
    return path


def error(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load_point_cloud(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", DATA / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestNormalisation:
    def test_by_hand(self) -> None:
        # bounding box [0, 4] x [0, 2]: middle (2, 1), farthest corner at sqrt(4 + 1)
        fitted = Normalisation.fit(np.array([[0.0, 0], [4, 2], [1, 1]]))
        assert fitted.centre.tolist() == [2, 1]
        assert fitted.scale == pytest.approx(5**0.5, rel=1e-15)
        np.testing.assert_allclose(fitted.apply([[4, 2]]), [[2 / 5**0.5, 1 / 5**0.5]], rtol=1e-15)

    def test_fits_the_unit_ball_and_touches_it(self) -> None:
        points = sphere(200) * [1, 20, 3] + 100
        norms = np.linalg.norm(Normalisation.fit(points).apply(points), axis=1)
        assert norms.max() == pytest.approx(1, rel=1e-14)

    def test_geographic_offset_comes_back(self) -> None:
        detail = 1e-3
        points = 1e7 + detail * np.random.default_rng(2).integers(0, 10**6, (1000, 3))
        fitted = Normalisation.fit(points)
        assert np.abs(fitted.invert(fitted.apply(points)) - points).max() < 1e-8 * detail

    def test_any_leading_shape(self) -> None:
        fitted = Normalisation.fit(sphere(d=2) * 3 + 1)
        x = np.random.default_rng(3).normal(size=(4, 5, 2))
        np.testing.assert_allclose(fitted.invert(fitted.apply(x)), x, rtol=1e-13)
        assert fitted.apply(x[0, 0]).shape == (2,)

    def test_single_precision_is_widened_first(self) -> None:
        fitted = Normalisation(np.array([1e7, 0.0]), 1.0)
        assert fitted.apply(np.float32([[0.1, 0.1]])).dtype == np.float64
        assert fitted.invert(np.float32([[0.1, 0]]))[0, 0] - 1e7 == pytest.approx(0.1, abs=1e-8)

    def test_plain_and_back(self) -> None:
        fitted = Normalisation.fit(sphere() / 3)
        plain = fitted.to_dict()
        assert [type(v) for v in plain["centre"]] == [float] * 3
        assert type(plain["scale"]) is float
        again = Normalisation.from_dict(plain)
        assert np.array_equal(again.centre, fitted.centre)
        assert again.scale == fitted.scale


class TestDimension:
    def test_mismatch_names_both(self, tmp_path: Path) -> None:
        assert error(save(tmp_path, sphere()), d_in=2).endswith(
            "scan.xyz has 3 columns (3D) but train.d_in = 2: leave it out, or --set train.d_in=3"
        )
        assert "has 2 columns (2D) but train.d_in = 3: leave it out, or --set train.d_in=2" in error(
            save(tmp_path, sphere(d=2)), d_in=3
        )

    def test_constant_z_is_2d_when_asked(self, tmp_path: Path) -> None:
        flat = np.c_[sphere(d=2), np.full(50, 7.0), sphere(d=2), np.zeros(50)]
        cloud = load_point_cloud(save(tmp_path, flat), d_in=2)
        np.testing.assert_array_equal(cloud.points, flat[:, :2])
        np.testing.assert_allclose(cloud.normals, flat[:, 3:5], rtol=1e-15)
        assert cloud.note == "z is the same throughout and was left out"

    def test_constant_z_with_tilted_normals_is_refused(self, tmp_path: Path) -> None:
        flat = np.c_[sphere(d=2), np.zeros(50), sphere()]
        assert "nz other than 0" in error(save(tmp_path, flat), d_in=2)


class TestInvalidRows:
    def values(self) -> Array:
        values = sphere()
        values[6, 1], values[9, 0] = np.nan, -np.inf
        return values

    def test_refused_with_the_count_and_the_first(self, tmp_path: Path) -> None:
        text = error(save(tmp_path, self.values()))
        assert (
            "NaN or infinity in 2 of 50 rows (first in row 7: y): --set train.drop_invalid=true drops them"
            in text
        )

    def test_dropped_when_asked(self, tmp_path: Path) -> None:
        cloud = load_point_cloud(save(tmp_path, self.values()), drop_invalid=True)
        np.testing.assert_array_equal(cloud.points, np.delete(self.values(), [6, 9], axis=0))
        assert cloud.note == "left out: 2 points with NaN or infinity"

    def test_non_finite_normals_count(self, tmp_path: Path) -> None:
        values = np.c_[sphere(), sphere()]
        values[:3, 4] = np.nan
        assert "3 of 50 rows (first in row 1: ny)" in error(save(tmp_path, values))

    def test_rows_without_coordinates_are_left_out(self, tmp_path: Path) -> None:
        """As organised clouds have them; whether the normals there are finite does not matter."""
        values = np.c_[sphere(), sphere()]
        values[[0, 7, 30], :3] = np.nan
        cloud = load_point_cloud(save(tmp_path, values))
        np.testing.assert_array_equal(cloud.points, np.delete(sphere(), [0, 7, 30], axis=0))
        np.testing.assert_allclose(cloud.normals, np.delete(sphere(), [0, 7, 30], axis=0), rtol=1e-14)
        assert cloud.note == "left out: 3 points without coordinates (NaN)"

    def test_unused_normals_may_be_anything(self, tmp_path: Path) -> None:
        for values, says in (
            (np.full((50, 3), np.nan), "the normals are all zero or NaN and are ignored"),
            (np.zeros((50, 3)), "the normals are all zero or NaN and are ignored"),
            (np.where(np.arange(50)[:, None] % 10, sphere(), np.nan), "some normals are NaN or infinite: all are"),
            (np.where(np.arange(50)[:, None] % 10, sphere(), 0), "the normals are unsound (of length zero"),
        ):
            path = tmp_path / "scan.csv"
            np.savetxt(path, np.c_[sphere(), values], delimiter=",", header="x,y,z,nx,ny,nz", comments="")
            cloud = load_point_cloud(path, normals=False)
            np.testing.assert_allclose(cloud.points, sphere(), rtol=1e-15)
            assert cloud.normals is None
            assert cloud.note is not None
            assert cloud.note.startswith(says)
            error(path)

    def test_normals_that_nobody_computed(self, tmp_path: Path) -> None:
        text = error(save(tmp_path, np.c_[sphere(), np.zeros((50, 3))]))
        remedy = "leave the normals out (network.has_normals = false), or give a file with normals"
        assert f"has normals that are all zero or NaN, which nobody computed: {remedy}" in text

    def test_too_few_left(self, tmp_path: Path) -> None:
        values = sphere(12)
        values[:3] = np.nan
        text = error(save(tmp_path, values))
        assert "holds 9 points (left out: 3 points without coordinates (NaN)): expected 10 or more" in text


class TestNothingMeasured:
    def test_zeros_of_depth_cameras(self, tmp_path: Path) -> None:
        points = sphere() + 9
        order = np.random.default_rng(3).permutation(80)
        cloud = load_point_cloud(save(tmp_path, np.r_[points, np.zeros((30, 3))][order]))
        np.testing.assert_array_equal(np.sort(cloud.points, axis=0), np.sort(points, axis=0))
        assert cloud.note is not None
        assert cloud.note.startswith("left out: 30 points at 0 0 0, where nothing was measured")

    def test_a_single_point_at_the_origin_is_one(self, tmp_path: Path) -> None:
        points = np.r_[sphere(), np.zeros((1, 3))]
        np.testing.assert_array_equal(load_point_cloud(save(tmp_path, points)).points, points)

    def test_zeros_that_a_registration_moved(self, tmp_path: Path) -> None:
        """Of each of two clumps, spread by rounding, one point is left."""
        rng = np.random.default_rng(4)
        clumps = np.repeat([[3.0, 0, 0], [0, 3.0, 0.3]], 200, axis=0) + rng.normal(0, 3e-8, (400, 3))
        cloud = load_point_cloud(save(tmp_path, np.r_[sphere(500), clumps]))
        assert len(cloud.points) == 502
        np.testing.assert_array_equal(cloud.points[:500], sphere(500))
        np.testing.assert_allclose(cloud.points[500:], [[3, 0, 0], [0, 3, 0.3]], atol=3e-7)
        assert "398 points beyond one where many are at one place" in (cloud.note or "")

    def test_strays_far_off_make_no_clump_of_the_body(self, tmp_path: Path) -> None:
        body, random = sphere(20_000), np.random.default_rng(5)
        strays = sphere(300) * np.geomspace(2, 3e5, 300)[random.permutation(300), None]
        for far in (strays, 1e10 * np.eye(3)):
            cloud = load_point_cloud(save(tmp_path, np.r_[body, far]))
            assert len(cloud.points) == 20_000 + len(far)
            assert "--crop=-1." in (cloud.note or "")

    def test_corners_at_the_origin_that_many_triangles_share_stay(self, tmp_path: Path) -> None:
        """The corners of each triangle of a cone whose apex is at the origin."""
        angle = np.linspace(0, 2 * np.pi, 41)[:-1]
        ring = np.stack([np.cos(angle), np.sin(angle), np.ones(40)], axis=1)
        following, centre = np.roll(ring, -1, axis=0), np.tile([0, 0, 1.0], (40, 1))
        soup = np.concatenate([np.zeros((40, 3)), ring, following, ring, following, centre])
        cloud = load_point_cloud(save(tmp_path, soup))
        assert cloud.note is None
        assert len(cloud.points) == 240

    def test_a_plane_is_one_whatever_rows_without_a_measurement_say(self, tmp_path: Path) -> None:
        flat = np.r_[np.c_[sphere(60, 2), np.zeros(60)], np.full((1, 3), np.nan)]
        assert load_point_cloud(save(tmp_path, flat), d_in=2).points.shape == (60, 2)

    def test_clouds_written_twenty_times_are_not_clumps(self, tmp_path: Path) -> None:
        points = np.repeat(sphere(), 40, axis=0)
        assert len(load_point_cloud(save(tmp_path, points)).points) == 2000

    def test_a_point_so_far_away_that_the_rest_is_a_line_with_it_is_told(self, tmp_path: Path) -> None:
        body = np.random.default_rng(0).uniform(0, 20, (1000, 3)) + np.array([5e5, 5.1e6, 100])
        told = error(save(tmp_path, np.append(body, [[0.0, 0.0, 0.0]], axis=0)))
        ends = [float(end) for end in told.partition("--crop=")[2].partition(" ")[0].split(",")]
        low, high = np.array(ends).reshape(3, 2).T
        assert ((low < body.min(axis=0)) & (body.max(axis=0) < high)).all()
        assert (high - low < 60).all()

    def test_few_points_far_away_are_told(self, tmp_path: Path) -> None:
        cloud = load_point_cloud(save(tmp_path, np.r_[sphere(1000), 50 * sphere(40)]))
        assert len(cloud.points) == 1040
        assert cloud.note is not None
        share, ends = cloud.note.removeprefix("most points fill ").split(" % of the box about all: --crop=")
        assert 1e-4 < float(share) < 1e-2  # about (2 / 100)³
        low, high = np.array(ends.removesuffix(" reads those alone").split(","), dtype=float).reshape(3, 2).T
        assert (low < -1).all()
        assert (high > 1).all()
        assert (high - low < 3).all()
        assert load_point_cloud(save(tmp_path, sphere(1000))).note is None

    def test_a_tower_on_flat_ground_is_not_far_away(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        ground = np.append(random.uniform(0, 100, (2000, 2)), np.zeros((2000, 1)), axis=1)
        tower = random.uniform([45, 45, 0], [55, 55, 60], (60, 3))
        assert load_point_cloud(save(tmp_path, np.r_[ground, tower])).note is None


class TestNormals:
    def test_are_made_unit(self, tmp_path: Path) -> None:
        lengths = np.geomspace(1e-200, 1e200, 50)[:, None]
        cloud = load_point_cloud(save(tmp_path, np.c_[sphere() * 5, sphere() * lengths]))
        np.testing.assert_allclose(cloud.normals, sphere(), atol=1e-15)
        np.testing.assert_array_equal(cloud.points, sphere() * 5)

    def test_zero(self, tmp_path: Path) -> None:
        values = np.c_[sphere(d=2), sphere(d=2)]
        values[[4, 8], 2:] = 0
        assert "2 of 50 normals of length zero" in error(save(tmp_path, values))

    def test_four_columns_without_names(self, tmp_path: Path) -> None:
        """x y z intensity is as wide as x y nx ny, which are normals where their length is 1."""
        scan = np.c_[sphere(), np.linspace(0, 1, 50)]
        cloud = load_point_cloud(save(tmp_path, scan))
        np.testing.assert_array_equal(cloud.points, sphere())
        assert cloud.note == "column 4 without a name left out"
        flat = np.c_[sphere(d=2), 1.05 * sphere(d=2)]
        assert load_point_cloud(save(tmp_path, flat)).normals is not None
        text = tmp_path / "named.csv"
        np.savetxt(text, np.c_[flat[:, :2], 7 * flat[:, 2:]], delimiter=",", header="x,y,nx,ny", comments="")
        np.testing.assert_allclose(load_point_cloud(text).normals, sphere(d=2), atol=1e-12)
        np.savetxt(text, scan, delimiter=",", header="x,y,z,intensity", comments="")
        np.testing.assert_allclose(load_point_cloud(text).points, sphere(), atol=1e-12)

    def test_whole_numbers_are_no_normals(self, tmp_path: Path) -> None:
        packed = np.round(127 * sphere() + 128)
        path = tmp_path / "scan.csv"
        np.savetxt(path, np.c_[sphere(), packed], delimiter=",", header="x,y,z,nx,ny,nz", comments="")
        assert "whole numbers from 0 up where normals were expected" in error(path)


class TestDegenerate:
    @pytest.mark.parametrize(
        ("scale", "offset"), [(1.0, 0.0), (1e-9, 0.0), (1e-3, 1e7), (1e6, 0), (1e-90, 0), (1e-9, 1.0)]
    )
    @pytest.mark.parametrize("d", [2, 3])
    def test_sound_clouds_pass_at_any_scale_and_offset(
        self, tmp_path: Path, scale: float, offset: float, d: int
    ) -> None:
        points = sphere(d=d) * scale + offset
        np.testing.assert_array_equal(load_point_cloud(save(tmp_path, points)).points, points)

    @pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-9, 0.0), (1.0, 1e7), (1e6, -3e7)])
    def test_flat_clouds_do_not(self, tmp_path: Path, scale: float, offset: float) -> None:
        turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
        plane = np.c_[sphere(d=2), np.zeros(50)] @ turn * scale + offset
        text = error(save(tmp_path, plane))
        assert "all 50 points lie in one plane: a closed surface encloses a volume" in text
        assert "give two columns (x y)" in text
        line = np.c_[sphere(d=2)[:, :1], np.zeros((50, 2))] @ turn * scale + offset
        assert "lie on one straight line: a closed surface encloses a volume" in error(save(tmp_path, line))
        assert "straight line: a closed curve encloses an area" in error(save(tmp_path, line[:, :2]))
        assert "all 50 points are equal" in error(save(tmp_path, np.full((50, 3), offset + scale / 3)))

    def test_plane_rounded_to_six_decimals(self, tmp_path: Path) -> None:
        turn, _ = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))
        plane = np.round(np.c_[sphere(2000, d=2), np.zeros(2000)] @ turn, 6)
        assert "one plane" in error(save(tmp_path, plane))

    def test_thin_but_solid_passes(self, tmp_path: Path) -> None:
        assert len(load_point_cloud(save(tmp_path, sphere() * [1, 1, 1e-4])).points) == 50

    def test_duplicates_are_fine(self, tmp_path: Path) -> None:
        assert len(load_point_cloud(save(tmp_path, np.tile(sphere(12), (5, 1)))).points) == 60

    def test_absurd_coordinates(self, tmp_path: Path) -> None:
        assert "coordinates up to 1e+200" in error(save(tmp_path, np.r_[sphere(), [[1e200, 0, 0]]]))


class TestSamples:
    def test_the_analytic_ones_are_made_again(self) -> None:
        make = load_script()
        assert make.xyz_bytes(make.two_shapes()) == (DATA / "two_shapes_2d.xyz").read_bytes()
        assert make.ply_bytes(*make.torus()) == (DATA / "torus_normals.ply").read_bytes()

    def test_torus_satisfies_its_equation(self) -> None:
        cloud = load_point_cloud(DATA / "torus_normals.ply", d_in=3)
        assert cloud.normals is not None
        assert len(cloud.points) == 5000
        ring = np.linalg.norm(cloud.points[:, :2], axis=1)
        distance = np.hypot(ring - 2, cloud.points[:, 2]) - 0.7
        assert np.abs(distance).max() < 1e-6
        heart = np.c_[cloud.points[:, :2] * (2 / ring)[:, None], np.zeros(5000)]
        np.testing.assert_allclose(cloud.normals, (cloud.points - heart) / 0.7, atol=1e-6)
        # uniform by area, half of the tube's angle has (1/2 + r / (pi R)) of it: 0.611, +-4 standard errors
        assert np.mean(ring > 2) == pytest.approx(0.5 + 0.7 / (np.pi * 2), abs=4 * 0.5 / 5000**0.5)

    def test_two_shapes_lie_on_their_curves(self) -> None:
        points = load_point_cloud(DATA / "two_shapes_2d.xyz", d_in=2).points
        star, disc = points[:700] - [-1.2, 0], points[700:] - [1.1, 0.3]
        radius = 1 + 0.3 * np.cos(5 * np.arctan2(star[:, 1], star[:, 0]))
        assert np.abs(np.linalg.norm(star, axis=1) - radius).max() < 3e-6
        assert np.abs(np.linalg.norm(disc, axis=1) - 0.7).max() < 1e-6
        assert len(points) == 1000
        gaps = np.linalg.norm(np.diff(points[:700], axis=0), axis=1)
        assert gaps.max() / gaps.min() < 1.01

    def test_two_shapes_have_their_curves_as_a_target(self) -> None:
        curves = read_surface(DATA / "two_shapes_2d_gt.ply")
        assert curves.is_closed()
        assert curves.components()[0] == 2
        points = load_point_cloud(DATA / "two_shapes_2d.xyz").points
        assert distance_to_surface(points, curves)[0].max() < 3e-5  # the chords of 2000 segments
        # the middles of the star, whose valleys are nearest, and of the disc; and a point above the disc
        asked = np.array([[-1.2, 0.0], [1.1, 0.3], [1.1, 1.5]])
        np.testing.assert_allclose(signed_distance(asked, curves), [-0.7, -0.7, 0.5], atol=1e-4)

    def test_bunny(self) -> None:
        cloud = load_point_cloud(DATA / "bunny.xyz")
        assert cloud.points.shape == (20_000, 3)
        assert cloud.normals is None
        np.testing.assert_allclose(np.ptp(cloud.points, axis=0), [49.95, 38.65, 49.24], atol=0.05)

    def test_readme_lists_them(self) -> None:
        listed = set(re.findall(r"^\| `(\S+)`", (DATA / "README.md").read_text(), re.MULTILINE))
        assert listed == {p.name for p in DATA.iterdir() if p.suffix not in (".py", ".md") and p.is_file()}

    def test_sampling_triangles_is_uniform(self) -> None:
        make = load_script()
        # two triangles of areas 1/2 and 3/2, and one of none
        vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 0, 1], [0, 1, 1]])
        faces = np.array([[0, 0, 1], [0, 1, 2], [3, 4, 5]])
        points = make.sample_triangles(vertices, faces, 40_000, seed=1)
        upper = points[:, 2] > 0.5
        assert set(np.round(points[:, 2], 12)) == {0.0, 1.0}
        assert upper.mean() == pytest.approx(0.75, abs=0.01)
        np.testing.assert_allclose(points[upper].mean(axis=0), [1, 1 / 3, 1], atol=0.02)
