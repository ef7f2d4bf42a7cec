"""The method for programs: what is given back, what is refused, and that no text names a flag of the command line."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from conftest import CENTRES, RADIUS
from phase_recon.datasets.pointcloud import point_cloud
from phase_recon.reconstruction import training
from phase_recon.reconstruction.api import OF_FILES, load_field, reconstruct
from phase_recon.reconstruction.input_cloud import READING_KEYS
from phase_recon.reconstruction.training import Interrupted
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError


@pytest.fixture(params=[0, 1], ids=["2D", "3D"])
def kind(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_reconstruct_gives_a_surface_in_the_frame_of_the_points(shapes: Any, kind: int, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = shapes[kind]
    overrides = {
        "train.points_batch": 64, "train.pts_in_omega": 64, "plot.resolution": 16,
        "train.learning_rate_schedule": [{"Type": "Cosine", "Initial": 0.005, "Final": 0.0}],
        "network.inputs": {"dims": [16, 16], "use_FFM": False, "radius_init": 0.9},
    }  # fmt: skip
    surface = reconstruct(points, (points - CENTRES[kind]) / RADIUS, steps=150, overrides=overrides, gpu="cpu")
    field = surface.field
    assert isinstance(surface, Surface)
    count, d = surface.vertices.shape
    assert repr(surface).startswith(f"<Reconstruction in {d}D: {count} vertices, ")
    assert len(repr(surface) + repr(field)) < 200  # no arrays
    assert abs(np.linalg.norm(surface.vertices - CENTRES[kind], axis=1).mean() - RADIUS) < 0.1 * RADIUS
    np.testing.assert_allclose(field.w(surface.vertices), 0, atol=0.02 * RADIUS)
    assert field.u(np.array([CENTRES[kind]]))[0] < 0
    if kind == 1:
        with pytest.raises(UserError, match=r"^save: expected a path such as 'mesh\.ply', got None"):
            surface.save(None)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"^points: expected an array of numbers"):
            surface.field.w("a")  # type: ignore[arg-type]
        mesh = surface.to_trimesh()
        assert isinstance(mesh, trimesh.Trimesh)
        assert mesh.is_watertight
        assert mesh.volume > 0
    else:
        with pytest.raises(UserError, match=r"^to_trimesh: is of meshes, and this is a curve"):
            surface.to_trimesh()
    assert list(tmp_path.iterdir()) == []


def test_reconstruct_says_what_is_wrong(shapes: Any):
    with pytest.raises(UserError, match=r"network\.inputs\.dims"):
        reconstruct(shapes[0], overrides={"network.inputs.dims": []})
    with pytest.raises(UserError, match=r"^overrides: train\.nepok: unknown key; did you mean train.nepoch"):
        reconstruct(shapes[0], overrides={"train.nepok": 3})
    with pytest.raises(UserError, match=r"expected an array of shape"):
        reconstruct(np.zeros((20, 4)))
    with pytest.raises(UserError, match=r"points: expected an array, got 'scan.ply': the command phase-recon takes"):
        reconstruct("scan.ply")
    with pytest.raises(UserError, match=r"sensors: expected the shape of the points \(200, 2\), or \(2,\) for one"):
        reconstruct(shapes[0], sensors=np.zeros(3))
    with pytest.raises(UserError, match=r"^sensors: have no meaning with normals, which tell the sides"):
        reconstruct(shapes[0], shapes[0], sensors=np.zeros(2))
    sensors = np.where(np.arange(len(shapes[0]))[:, None] == 3, np.nan, np.ones_like(shapes[0]))
    with pytest.raises(UserError, match=f"sensors: 1 of {len(shapes[0])} are NaN or infinite; leave them out"):
        reconstruct(shapes[0], sensors=sensors)
    with pytest.raises(UserError, match=r"^minutes and steps: one or the other"):
        reconstruct(shapes[0], minutes=1, steps=3)
    with pytest.raises(UserError, match=r"no value of a key; expected a number, a text, a list or null"):
        reconstruct(shapes[0], overrides={"train.nepoch": object()})
    with pytest.raises(UserError, match=r"^overrides: train\.sensor is for files, and does nothing here: gi"):
        reconstruct(shapes[0], overrides={"train.sensor": [0, 0]})
    with pytest.raises(UserError, match=r"overrides: train\.voxel is for files, .*: select the points before"):
        reconstruct(shapes[0], overrides={"train": {"voxel": 0.1}})
    with pytest.raises(UserError, match=r"^overrides: plot\.mesh_format is for files, .*: save\(\) takes"):
        reconstruct(shapes[0], overrides={"plot.mesh_format": "stl"})
    with pytest.raises(UserError, match=r"^overrides: plot\.save_html is for files, .*: save\(\) writes the surface"):
        reconstruct(shapes[0], overrides={"plot.save_html": False})
    with pytest.raises(UserError, match=r"points: expected an array of numbers, \(N, 2\) or \(N, 3\): "):
        reconstruct([[0, 0, 0], [1, 1]])
    with pytest.raises(UserError, match=r"^points: expected an array of numbers, .*: it is of complex128"):
        reconstruct(shapes[0] + 0j)
    with pytest.raises(UserError, match=r"it is of bool"):
        reconstruct(shapes[0] > 0)
    with pytest.raises(UserError, match=r"^overrides: expected a dict such as \{\"train\.seed\": 3\}, got 'train"):
        reconstruct(shapes[0], overrides="train.seed=3")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^load_field: expected the path of a run or of a checkpoint, got None"):
        load_field(None)  # type: ignore[arg-type]
    unmeasured = np.append(shapes[0], [[np.nan, np.nan]], axis=0)
    at = np.append(np.ones_like(shapes[0]), [[np.nan, np.nan]], axis=0)
    assert len(point_cloud(unmeasured, sensors=at).sensors) == len(shapes[0])
    assert set(READING_KEYS) - set(OF_FILES) == {"train.drop_invalid"}  # which holds for arrays, too
    broken = np.append(shapes[0], [[np.nan, 0.0]], axis=0)
    with pytest.raises(UserError, match=r"overrides=\{\"train\.drop_invalid\": True\} drops them$"):
        reconstruct(broken)


def test_reconstruct_takes_rows_that_are_no_points_and_where_the_points_were_seen_from(shapes: Any, monkeypatch: Any):
    clouds = []

    def fit(config: Any, cloud: Any, device: Any, announce: Any, **rest: Any) -> Any:
        clouds.append(cloud)
        raise Interrupted(130, 0)

    monkeypatch.setattr(training, "fit", fit)
    broken = np.append(shapes[1], [[np.nan, 0.0, 0.0]], axis=0)
    left_out = pytest.warns(UserWarning, match="^left out: 1 point with NaN or infinity$")
    with left_out, pytest.raises(KeyboardInterrupt):
        reconstruct(broken, sensors=(1.0, 2.0, 300.0), overrides={"train.drop_invalid": True})
    np.testing.assert_array_equal(clouds[0].points, shapes[1])
    np.testing.assert_array_equal(clouds[0].sensors, np.broadcast_to([1.0, 2.0, 300.0], shapes[1].shape))


def test_a_warning_of_the_run_is_one_of_the_program(shapes: Any, monkeypatch: Any):
    def fit(config: Any, cloud: Any, device: Any, announce: Any, **rest: Any) -> Any:
        announce("device: CPU")
        announce("warning: the cloud is 0.1 thick")
        raise Interrupted(130, 0)

    monkeypatch.setattr(training, "fit", fit)
    with pytest.warns(UserWarning, match=r"^the cloud is 0\.1 thick$") as said, pytest.raises(KeyboardInterrupt):
        reconstruct(shapes[1])
    assert len(said) == 1


@pytest.mark.parametrize(("given", "text"), [
    ({"steps": 0}, "steps: expected at least 1, got 0"),
    ({"minutes": 0}, "minutes: expected more than 0 minutes, got 0.0"),
    ({"resolution": 4, "steps": 0}, "the arguments: 2 problems in the configuration\n"
     "  steps: expected at least 1, got 0\n  resolution: expected 8 to 2048, got 4"),
    ({"gpu": "x"}, "gpu=x: expected auto, cpu, ignore or the number of a GPU"),
    ({"steps": 3, "overrides": {"train.nepoch": 4}},
     "overrides: train.nepoch is told by steps=, in another way; leave one of them out"),
    ({"overrides": {"network.has_normals": True}},
     "overrides: network.has_normals is told by normals=, in another way; leave one of them out"),
    ({"steps": 3, "overrides": {"train": {"time_budget": 1.0}}},
     "overrides: train.time_budget, but steps= is given; a run ends by its steps or by the clock"),
])  # fmt: skip
def test_mistakes_are_called_as_the_arguments_are(shapes: Any, given: dict[str, Any], text: str):
    with pytest.raises(UserError) as refused:
        reconstruct(shapes[1], **given)
    assert str(refused.value) == text


def said_of(*arguments: Any, **more: Any) -> list[str]:
    """The warnings and the error of a short reconstruction."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            reconstruct(*arguments, **{"steps": 2, "resolution": 16, "gpu": "cpu"}, **more)
        except UserError as error:
            return [str(error)]
    return [str(warning.message) for warning in caught]


def test_no_text_names_a_flag(shapes: Any):
    sphere = shapes[1]
    random = np.random.default_rng(0)
    turned = (sphere - CENTRES[1]) * np.where(random.random((len(sphere), 1)) < 0.5, 1, -1)
    hills = np.append(random.random((400, 2)), np.zeros((400, 1)), axis=1)
    flat, hills[:, 2] = hills.copy(), 0.05 * np.sin(5 * hills[:, 0])
    for texts, end in (
        (said_of(sphere, turned), "of its normals point outward, and where they are wrong, the surface will be: "
                                  "leave them out"),
        (said_of(np.append(sphere, [[1e5, 0, 0]], axis=0)), " % of the box about all: select the points before"),
        (said_of(hills), '(plot.trim = auto); overrides={"plot.trim": "closed"} keeps it'),
        (said_of(flat), "for a planar curve give two columns (x y)"),
        (said_of(sphere, overrides={"plot.trim": 1e-9}), 'unit, or overrides={"plot.trim": "closed"}'),
    ):  # fmt: skip
        assert any(text.endswith(end) for text in texts), texts
        assert not any("--" in text for text in texts)
