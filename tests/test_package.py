"""The wheel, built and installed beside a foreign ``datasets`` and a user's ``utils``, works in an empty folder.

What the package needs stands in the environment of the tests; the package itself is installed for each of these.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT

SMALL = ("--nepoch", "3", "--gpu", "cpu", "--set", "plot.resolution=24", "--set", "train.start=network")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as ``pip wheel .`` does, but by the build back end that is there."""
    folder = tmp_path_factory.mktemp("wheel")
    script = f"import hatchling.build, os; os.chdir({str(ROOT)!r}); hatchling.build.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel and a foreign ``datasets`` in it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, timeout=120)
    (folder / "datasets").mkdir()
    (folder / "datasets" / "__init__.py").write_text("kind = 'foreign'\n")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An otherwise empty folder with a user's own ``utils.py``."""
    (tmp_path / "utils.py").write_text("kind = 'own'\n")
    return tmp_path


def run(place: Path, site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_wheel_holds_all_that_a_run_needs(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(entry_points).decode()
    for name in ("__init__.py", "py.typed", "setup.conf", "data/bunny.xyz", "confs/siren.conf", "model/kernels.c"):
        assert f"phase_recon/{name}" in names
    assert all(name.startswith(("phase_recon/", "phase_recon-")) for name in names)
    assert "phase-recon = phase_recon.reconstruction.run:main" in commands
    for command in ("compare", "benchmark"):
        assert f"phase-recon-{command} = phase_recon.reconstruction.{command}:main" in commands


def test_the_command_works_in_an_empty_folder(site: Path, place: Path):
    """The sample cloud is inside of the package, and the results are in the current folder."""
    done = run(place, site, str(site / "bin" / "phase-recon"), *SMALL)
    assert done.returncode == 0, done.stderr
    (folder,) = (place / "exps").glob("*/*")
    assert (folder / "evaluation" / "3" / "surface.ply").is_file()


def test_a_program_imports_it_beside_foreign_and_own_modules(site: Path, place: Path):
    program = (
        "import datasets, utils, numpy as np, phase_recon\n"
        "assert (datasets.kind, utils.kind) == ('foreign', 'own')\n"
        f"assert phase_recon.__file__.startswith({str(site)!r})\n"
        "x = np.random.default_rng(0).normal(size=(300, 3)); x /= np.linalg.norm(x, axis=1, keepdims=True)\n"
        "mesh = phase_recon.reconstruct(x, overrides={'train.nepoch': 30, 'plot.resolution': 24}, gpu='cpu')\n"
        "mesh.save('mesh.obj')\n"
        "print(mesh.vertices.shape[1], mesh.faces.shape[1], len(mesh.field.w(x)))\n"
        "try:\n    phase_recon.reconstruct(np.ones((20, 3)))\n"
        "except phase_recon.UserError as error:\n    print(error)\n"
    )
    done = run(place, site, "-c", program)
    assert done.returncode == 0, done.stderr
    numbers, said = done.stdout.splitlines()
    assert numbers == "3 3 300"
    assert said == "points: all 20 points are equal: expected points on a curve or surface"
    assert (place / "mesh.obj").is_file()


def test_the_checkout_s_command_is_not_led_astray_either(site: Path, place: Path):
    """run.py of the checkout takes its own package, not the installed one, and writes where it is told."""
    points = np.random.default_rng(0).standard_normal((200, 3))
    np.savetxt(place / "ball.xyz", points / np.linalg.norm(points, axis=1, keepdims=True))
    script = str(ROOT / "code" / "reconstruction" / "run.py")
    done = run(place, site, script, "--input", "ball.xyz", "--exps_dir", "mine", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (place / "mine").is_dir()
    shown = run(place, site, "-c", f"import runpy, sys; sys.argv = [{script!r}, '--help']\n"
                f"try:\n    runpy.run_path({script!r}, run_name='__main__')\nexcept SystemExit:\n    pass\n"
                "import phase_recon; print(phase_recon.__file__)")  # fmt: skip
    assert shown.stdout.splitlines()[-1] == str(ROOT / "code" / "phase_recon.py")
