"""A space of ellipsoids: training in one go and in two, codes for new clouds, whole and partial, and paths."""

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from ellipsoids import WIDTHS, configured, ellipsoid, write, write_all
from test_training import same_state

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.batch import together
from phase_recon.model.latent import CodedNet
from phase_recon.reconstruction.meshing import surface_of
from phase_recon.shapespace.config import SETUP, SpaceConfig, load_space_config
from phase_recon.shapespace.fitting import fit_code, nearest_codes, refined
from phase_recon.shapespace.run import main
from phase_recon.shapespace.shapes import find_shapes, load_shapes
from phase_recon.shapespace.space import load_space, space_from_checkpoint
from phase_recon.shapespace.train import Training, fit_space
from phase_recon.surface.files import read_surface
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config_files import config_from_dict, to_hocon
from phase_recon.utils.distributed import ALONE
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import npz_of, write_whole

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ellipsoids(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("ellipsoids"))


def silent(line):
    pass


def train(config, folder, checkpoint=None):
    experiment = Experiment.create(folder, "space")
    shapes = load_shapes(config, silent)
    fit_space(config, shapes, CPU, silent, experiment=experiment, checkpoint=checkpoint)
    return experiment


@pytest.fixture(scope="module")
def space(ellipsoids, tmp_path_factory):
    """A space of the ellipsoids but for e3, trained for 600 steps; its run's folder. Not to be changed."""
    folder = tmp_path_factory.mktemp("space")
    for file in ellipsoids.iterdir():
        if file.name != "e3.npz":
            (folder / "train").mkdir(exist_ok=True)
            (folder / "train" / file.name).write_bytes(file.read_bytes())
    rates = "[{Type=Cosine, Initial=0.005, Final=0.0001}, {Type=Cosine, Initial=0.01, Final=0.0001}]"
    keys = ("train.nepoch=600", f"train.learning_rate_schedule={rates}")
    return train(configured(folder / "train", *keys), folder / "exps").folder


def width_of(field):
    """Half the extent of a field's surface along x, over that along y."""
    surface = surface_of(field, None, configured(".").plot)
    extent = np.ptp(surface.vertices, axis=0)
    return extent[0] / extent[1]


# the configuration


def test_setup_conf_holds_the_defaults():
    """The file explains every key; with null for its input it is the dataclasses' defaults, but for the network."""
    config = load_space_config(str(SETUP), ())
    default = SpaceConfig()
    assert config.train == default.train
    assert config.plot == default.plot
    assert config.network.has_normals == default.network.has_normals
    assert config.latent_lambda == default.latent_lambda


def test_a_configuration_is_read_back_equal(tmp_path):
    config = configured("shapes", "network.loss.latent_lambda=0.5")
    path = tmp_path / "config.conf"
    path.write_text(to_hocon(config))
    assert load_space_config(str(path), ()) == config
    assert config.latent_lambda == 0.5
    assert config.single.network.loss == {"type": "phase"}
    assert config_from_dict(config.single.to_dict()) == config.single  # a single shape's, whole


def test_igr_s_configuration_of_d_faust_is_understood(tmp_path):
    """Its keys, with only the loss named; what means nothing here is said in one line."""
    path = tmp_path / "dfaust.conf"
    path.write_text("""
train { d_in = 3, preprocess = True, latent_size = 256, dataset_path = scans, weight_decay = 0
    learning_rate_schedule = [{ "Type" : "Step", "Initial" : 0.005, "Interval" : 500, "Factor" : 0.5 },
        { "Type" : "Step", "Initial" : 0.001, "Interval" : 500, "Factor" : 0.5 }]
    network_class = model.network.ImplicitNet }
network { inputs { dims = [ 512, 512, 512, 512, 512, 512, 512, 512 ], skip_in = [4], use_FFM = false }
    loss { type = igr, lambda = 0.1, normals_lambda = 1.0, latent_lambda = 1e-3 } }
""")
    config = load_space_config(str(path), ())
    assert (config.train.latent_size, config.latent_lambda) == (256, 1e-3)
    assert config.train.learning_rate_schedule[1].Initial == 0.001
    assert config.single.network.loss == {"type": "igr", "lambda": 0.1, "normals_lambda": 1.0}
    (warning,) = config.warnings
    assert "train.dataset_path" in warning
    assert "latent" not in warning


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("train.latent_size=0",), r"train\.latent_size: expected at least 1, got 0"),
        (("train.hold_gaps=true",), r"train\.hold_gaps: has no meaning for many shapes; remove it"),
        (("train.keep_hollows=true",), r"train\.keep_hollows: has no meaning for many shapes; remove it"),
        (("train.start=winding",), r"train\.start: has no meaning for many shapes"),
        (("train.refine_steps=-1",), r"train\.refine_steps: expected 0 or more, got -1"),
        (("train.fit_rate=0",), r"train\.fit_rate: expected more than 0"),
        (("network.loss.latent_lambda=-1",), r"network\.loss: expected latent_lambda of 0 or above, got -1"),
        (("network.loss.latent_lamda=1",), r"network\.loss\.latent_lamda: unknown key"),
        (
            ("train.learning_rate_schedule=[{Type=Cosine, Initial=0.1, Final=0}]",),
            r"learning_rate_schedule: expected two entries, for the network and for the latent codes, got 1",
        ),
        (
            ("train.network_class=model.siren.SirenNet", "network.inputs=null", "network.inputs={}"),
            r"train\.network_class: model\.siren\.SirenNet takes no latent code; set model\.network\.ImplicitNet",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(keys, text):
    with pytest.raises(UserError, match=text) as caught:
        configured("shapes", *keys)
    assert "\n" not in str(caught.value)


# training


def test_each_pass_has_every_shape_once(ellipsoids):
    config = configured(ellipsoids, "train.shapes_batch=3")
    training = Training(config, load_shapes(config, silent), CPU, ALONE, [])
    drawn = []
    for training.epoch in range(7):  # 21 draws are three passes over seven
        drawn += training.chosen()
    passes = [drawn[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["phase", "igr", "sal"])
def test_stopped_and_gone_on_is_the_same_to_the_last_bit(tmp_path, kind, d):
    for number, width in enumerate((0.7, 1.0, 1.2)):
        write(tmp_path / "shapes" / f"e{number}.npz", ellipsoid(width, 80, d, seed=number))
    keys = (f"network.loss.type={kind}", "train.nepoch=20", "train.checkpoint_frequency=10")
    config = configured(tmp_path / "shapes", *keys)
    whole = train(config, tmp_path)
    second = train(config, tmp_path, whole.load_checkpoint("10"))
    assert same_state(second.load_checkpoint(), whole.load_checkpoint())
    ten = whole.load_checkpoint("10")
    assert not torch.equal(ten["codes"], whole.load_checkpoint()["codes"])
    assert [record["epoch"] for record in whole.records()] == [5, 10, 15, 20]


def test_the_terms_are_means_over_the_shapes_of_a_step(ellipsoids):
    """With both shapes the same cloud and codes of length 5, weight 0.1: one shape's terms, and 0.5 of the codes."""
    config = configured(ellipsoids, "network.loss.latent_lambda=0.1")
    training = Training(config, load_shapes(config, silent), CPU, ALONE, [])
    with torch.no_grad():
        training.codes[:] = torch.tensor([3.0, 4.0, 0.0, 0.0])
    before = [parameter.clone() for parameter in training.space.network.parameters()]
    terms = training.step(training.space.loss, 0.0, 0.0)
    assert terms["codes"].item() == pytest.approx(0.5)
    assert set(terms) == {"reconstruction", "gradient", "potential", "normals", "codes"}
    assert all(map(torch.equal, before, training.space.network.parameters()))  # at a rate of zero
    moved = training.codes.grad.abs().sum(-1) > 0
    assert moved.sum() == config.train.shapes_batch


LOSSES = ("phase", "igr", "siren", "digs", "steik", "hotspot", "viscoreg", "nsh", "sal", "sald")


@pytest.mark.parametrize("kind", LOSSES)
def test_a_step_s_terms_and_gradients_are_means_of_each_shape_s_own(ellipsoids, kind):
    """Against a loop over the shapes, for every loss but occupancy, whose offsets follow the order of the points."""
    config = configured(ellipsoids, f"network.loss={{type={kind}}}", "train.shapes_batch=3", "train.ball_sigma=0.01",
                        "train.compile=false", "train.bfloat16=false")  # fmt: skip
    training = Training(config, load_shapes(config, silent), CPU, ALONE, [])
    with torch.no_grad():
        training.codes.normal_(generator=torch.Generator().manual_seed(1))
    network, loss, chosen = training.space.network.double(), training.space.loss, training.chosen()
    codes = training.codes.detach().double()

    def doubled(value):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.double()
        return replace(value, **{f.name: doubled(getattr(value, f.name)) for f in fields(value)}) if is_dataclass(
            value) else value  # fmt: skip

    batches = [doubled(training.samplers[index].draw(training.generator)) for index in chosen]
    every = codes[chosen].clone().requires_grad_()
    terms = loss(CodedNet(network, every), together(batches))
    (gradient,) = torch.autograd.grad(sum(terms.values()), [every])
    for name, term in terms.items():
        alone = [loss(CodedNet(network, codes[i]), batch)[name] for i, batch in zip(chosen, batches, strict=True)]
        assert term.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-9)
    for number, (index, batch) in enumerate(zip(chosen, batches, strict=True)):
        code = codes[index].clone().requires_grad_()
        (own,) = torch.autograd.grad(sum(loss(CodedNet(network, code), batch).values()), [code])
        torch.testing.assert_close(gradient[number], own / 3)


def test_a_shape_without_estimated_normals_has_none_beside_others_that_have_them(ellipsoids):
    config = configured(ellipsoids, "train.shapes_batch=3", "network.has_normals=false", "train.compile=false")
    training = Training(config, load_shapes(config, silent), CPU, ALONE, [])
    batches = [training.samplers[index].draw(training.generator) for index in training.chosen()]
    assert all(batch.estimated is not None for batch in batches)
    for without in range(3):
        some = [replace(batch, estimated=None) if k == without else batch for k, batch in enumerate(batches)]
        found = together(some).estimated
        assert (found.trust[without::3] == 0).all()
        for k in {0, 1, 2} - {without}:
            torch.testing.assert_close(found.directions[k::3], batches[k].estimated.directions)
    assert together([replace(batch, estimated=None) for batch in batches]).estimated is None


def test_shapes_of_one_name_are_refused(tmp_path):
    for name in ("a.xyz", "a.txt"):
        (tmp_path / name).write_text("0 0 0\n")
    with pytest.raises(UserError, match=r"a\.xyz and .*a\.txt: two shapes of one name; move or rename one"):
        find_shapes(str(tmp_path), None)


def test_the_space_tells_its_shapes_apart(space):
    trained = load_space(space)
    found = [width_of(trained.field(trained.code_of(name))) for name in trained.names]
    assert found == pytest.approx([*WIDTHS[:3], *WIDTHS[4:]], abs=0.06)


def test_another_set_of_shapes_is_refused(space, ellipsoids):
    experiment = Experiment(space)
    config = configured(ellipsoids, "train.nepoch=700")
    with pytest.raises(UserError, match=r"does not hold the shapes that this run was started with: start a new run"):
        fit_space(config, load_shapes(config, silent), CPU, silent, checkpoint=experiment.load_checkpoint())


# shapes that it has not seen


def test_a_code_is_fitted_to_an_unseen_shape(space):
    trained = load_space(space)
    fitted = trained.field(fit_code(trained, ellipsoid(WIDTHS[3], seed=50)))
    assert width_of(fitted) == pytest.approx(WIDTHS[3], abs=0.04)


def test_a_network_of_its_own_fits_a_shape_that_the_space_has_not(space):
    """An ellipsoid twice as long as high is none of the family: a code alone cannot be near it."""
    trained = load_space(space)
    cloud = ellipsoid(0.8, seed=52)
    cloud = PointCloud(cloud.points * [1, 1, 0.7], cloud.normals / [1, 1, 0.7])
    cloud = PointCloud(cloud.points, cloud.normals / np.linalg.norm(cloud.normals, axis=1, keepdims=True))
    code = fit_code(trained, cloud)
    before = [parameter.clone() for parameter in trained.network.parameters()]
    config = replace(trained.config, train=replace(trained.config.train, refine_steps=150))
    own = refined(replace(trained, config=config), code, cloud)
    alone, with_own = (np.abs(space.field(code).w(cloud.points)).mean() for space in (trained, own))
    assert with_own < 0.3 * alone
    assert all(map(torch.equal, before, trained.network.parameters()))


def test_from_a_part_the_space_knows_the_rest(space):
    """Of the half x > 0.1 alone, with noise: the other half is there, and as wide."""
    trained = load_space(space)
    whole = ellipsoid(WIDTHS[3], 400, seed=51)
    kept = whole.points[:, 0] > 0.1
    noise = 0.01 * np.random.default_rng(0).standard_normal((kept.sum(), 3))
    part = PointCloud(whole.points[kept] + noise, whole.normals[kept])
    field = trained.field(fit_code(trained, part))
    assert width_of(field) == pytest.approx(WIDTHS[3], abs=0.08)
    hidden = whole.points[~kept]
    assert np.abs(field.w(hidden)).mean() < 0.05


def test_the_nearest_code_is_that_of_the_shape_itself(space):
    trained = load_space(space)
    points = trained.domain.normalisation.apply(ellipsoid(0.6, seed=7).points)
    first, second = nearest_codes(trained, torch.tensor(points, dtype=torch.float32), 2)
    assert torch.equal(first, trained.code_of("e0"))
    assert torch.equal(second, trained.code_of("e1"))


@pytest.mark.parametrize(
    ("cloud", "text"),
    [
        (ellipsoid(1.0, d=2), r"the cloud is 2D, but the space is 3D"),
        (PointCloud(ellipsoid(1.0).points), r"has no normals, but the space was trained with them: add --set network"),
    ],
)
def test_a_cloud_that_does_not_fit_the_space_is_refused(space, cloud, text):
    with pytest.raises(UserError, match=text):
        fit_code(load_space(space), cloud)


# the command


def call(capsys, space, *arguments):
    capsys.readouterr()
    command, *others = map(str, arguments)
    place = ("--exps_dir", str(space.parents[1]), "--expname", "space", "--gpu", "cpu")
    status = main([command, *others, *place])
    return status, capsys.readouterr()


def test_eval_writes_what_an_evaluation_has(capsys, space, tmp_path):
    write(tmp_path / "clouds" / "new.npz", ellipsoid(WIDTHS[3], seed=60))
    status, said = call(capsys, space, "eval", tmp_path / "clouds")
    assert status == 0, said.err
    folder = space / "fits" / "new"
    assert np.load(folder / "code.npz")["code"].shape == (4,)
    names = {path.name for path in (folder / "evaluation" / "600").iterdir()}
    assert names == {"surface.ply", "surface.html", "surface.png", "cuts.png", "metrics.json"}
    metrics = json.loads((folder / "evaluation" / "600" / "metrics.json").read_text())
    assert metrics["input"]["cloud_to_surface_mean"] < 0.05
    assert "new: components 1, points to surface" in said.out
    write(tmp_path / "others" / "new.npz", ellipsoid(WIDTHS[3], seed=61))
    said = call(capsys, space, "eval", tmp_path / "others")[1]
    was = f"{folder / 'evaluation' / '600'} was the evaluation of {tmp_path / 'clouds' / 'new.npz'}, and is replaced"
    assert f"note: {was}\n" in said.out
    code = (folder / "code.npz").read_bytes()
    refused = call(capsys, space, "eval", tmp_path / "others" / "new.npz", "--set", "plot.overwrite=false")[1].err
    assert refused == f"error: {folder / 'code.npz'}: is there, and plot.overwrite = false: move the folder away\n"
    assert (folder / "code.npz").read_bytes() == code


def test_a_code_is_for_the_network_that_it_was_fitted_to(capsys, space, tmp_path):
    code = tmp_path / "code.npz"
    write_whole(code, npz_of(code=np.zeros(4), network=np.array(load_space(space).fingerprint)))
    status, said = call(capsys, space, "interpolate", "e0", code, "--shapes", "2")
    assert status == 0, said.err
    write_whole(code, npz_of(code=np.zeros(4), network=np.array(7)))
    status, said = call(capsys, space, "interpolate", "e0", code, "--shapes", "2")
    assert (status, said.err) == (
        2, f"error: {code}: is the code for another run or step: name that, or fit the cloud again with eval\n"
    )  # fmt: skip
    np.savez(code, values=np.zeros(4))
    assert "not a code: give fits/<name>/code.npz" in call(capsys, space, "interpolate", "e0", code)[1].err


def test_one_cloud_that_fails_leaves_the_rest_alone(capsys, space, tmp_path):
    write(tmp_path / "clouds" / "good.npz", ellipsoid(WIDTHS[3], seed=60))
    np.savez(tmp_path / "clouds" / "bad.npz", points=np.zeros((30, 3)), normals=np.ones((30, 3)))
    status, said = call(capsys, space, "eval", tmp_path / "clouds", "--set", "plot.save_html=false")
    assert status == 1
    assert "bad: failed: " in said.out
    assert "good: components 1" in said.out
    assert "1 shapes; 1 failed" in said.out


def test_normals_that_point_inward_are_told(capsys, space, tmp_path):
    cloud = ellipsoid(WIDTHS[3], seed=60)
    for name, sign in (("out", 1), ("in", -1)):
        write(tmp_path / f"{name}.npz", PointCloud(cloud.points, sign * cloud.normals))
        said = call(capsys, space, "eval", tmp_path / f"{name}.npz", "--set", "plot.save_html=false")[1].out
        warned = "they point inward; where nearly all do they are turned, else turn them, or the code is fitted" in said
        assert warned == (sign < 0)


def test_a_budget_that_is_over_before_the_first_step_is_an_error_and_leaves_no_run(capsys, ellipsoids, tmp_path):
    words = ("train", ellipsoids, "--minutes", "0.00001", "--exps-dir", tmp_path / "exps", "--gpu", "cpu")
    assert main([str(word) for word in words]) == 2
    says = "--minutes 1e-05 (train.time_budget): they were over before the first step; give more"
    assert capsys.readouterr().err == f"error: {says}\n"
    assert not list((tmp_path / "exps").glob("*/*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("codes", torch.full((6, 4), torch.nan)), ("noise", "x"), ("names", []), ("latent_size", 10**12)],
)
def test_a_foreign_checkpoint_is_refused_before_anything_of_its_size_is_made(space, key, value):
    checkpoint = read_checkpoint(space / "checkpoints" / "latest.pth")
    if key == "latent_size":
        checkpoint["config"]["train"]["latent_size"] = value
        checkpoint |= {"names": [], "codes": torch.zeros(0, value)}
    else:
        checkpoint[key] = value
    with pytest.raises(UserError, match=r"^here: "):
        space_from_checkpoint(checkpoint, CPU, "here")


def test_a_path_goes_from_one_shape_to_the_other(capsys, space):
    status, said = call(capsys, space, "interpolate", "e0", "e6", "--shapes", "3")
    assert status == 0, said.err
    folder = space / "paths" / "600" / "e0-e6"
    assert {path.name for path in folder.iterdir()} == {"000.ply", "001.ply", "002.ply", "path.html", "path.gif"}
    extents = [np.ptp(read_surface(folder / f"00{number}.ply").vertices, axis=0)[0] / 2 for number in range(3)]
    assert extents[0] < extents[1] < extents[2]
    assert extents[0] == pytest.approx(WIDTHS[0], abs=0.06)
    assert "components along the path: 1, 1, 1" in said.out
    assert (folder / "path.gif").read_bytes()[:3] == b"GIF"
    status, said = call(capsys, space, "interpolate", "e0", "e6", "--shapes", "2")
    assert status == 0, said.err
    assert "note: 1 file of an earlier path, longer or in another format, removed\n" in said.out
    assert not (folder / "002.ply").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("interpolate", "e0", "e9"), "e9: no file, and no shape of the training; there are e0, e1, e2"),
        (("interpolate", "e0", "e6", "--shapes", "1"), "--shapes: expected at least 2, got 1"),
        (("interpolate", "e0", "e6", "--set", "plot.save_html=false"), "plot.save_html: does nothing for a path"),
        (("eval",), "give one cloud, a folder, a quoted glob or @list.txt"),
        (("eval", "none.npz"), "none.npz"),
        (("eval", "x", "--refine", "-1"), "--refine: expected 0 or more, got -1"),
        (("eval", "x", "--set", "train.seed=3"), "--set: train.seed cannot be other than in the training"),
        (("mesh",), "mesh"),
        (("train", "--is-continue"), "step 600 of 600 is done; --steps N continues"),
        (("train", "--steps", "3", "--minutes", "1"), "--steps and --minutes: one or the other"),
        (("train", "x", "--checkpoint", "500"), "--checkpoint names something to load: add --is-continue"),
        (("train", "no_such_folder"), "no_such_folder: no such file or folder; check the path"),
        (("train", "--is-continue", "--steps", "700", "--seed", "5"), "--seed (train.seed) is of the start of a run"),
        (("train", "x", "--set", "plot.verbose=true"), "plot.verbose: has no meaning for many shapes; remove it"),
    ],
)
def test_errors_are_one_line(capsys, space, arguments, text):
    status, said = call(capsys, space, *arguments)
    assert status == 2
    assert said.err.startswith("error: ")
    assert text in said.err
    assert said.err.count("\n") == 1


def test_the_command_trains_and_goes_on(capsys, tmp_path):
    for number, width in enumerate((0.7, 1.1)):
        write(tmp_path / "shapes" / f"e{number}.npz", ellipsoid(width, 80, seed=number))
    path = tmp_path / "small.conf"
    path.write_text(to_hocon(configured(tmp_path / "shapes", "train.nepoch=5")))
    where = ("--conf", str(path), "--exps_dir", str(tmp_path / "exps"), "--gpu", "cpu")
    assert main(["train", *where]) == 0
    assert main(["train", "--is-continue", "--nepoch", "8", *where]) == 0
    out = capsys.readouterr().out
    assert "trained 5 steps on 2 shapes" in out
    assert "trained 8 steps on 2 shapes" in out
    (run,) = (tmp_path / "exps" / "shapespace").iterdir()
    assert load_space(run).names == ["e0", "e1"]
