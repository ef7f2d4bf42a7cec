"""Who may import whom: read from the syntax trees, so that the direction of the data stays what it is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

CODE = ROOT / "code"
PACKAGE = "phase_recon"
BELOW = ("datasets", "geometry", "model", "reconstruction", "report", "surface", "utils")
ROOMS = (*BELOW, "benchmarks", "shapespace")

# What a module may import of ours, by names below phase_recon: the first row whose name is the module's or a package
# above it. utils <- geometry <- datasets, model, surface <- report <- reconstruction <- benchmarks, shapespace.
BASE = (
    "utils.archive", "utils.arrays", "utils.errors", "utils.files", "utils.general", "utils.memory", "utils.threads",
)  # fmt: skip
RULES: list[tuple[str, tuple[str, ...]]] = [
    ("phase_recon", ("reconstruction.api", "utils.errors")),  # the package itself
    ("utils.config_files", (*BASE, "utils.build", "utils.config", "utils.hocon", "utils.overrides")),
    ("utils", (*BASE, "utils.build", "utils.checkpoint", "utils.hocon", "utils.locations", "utils.overrides")),
    ("geometry", (*BASE, "geometry")),
    ("datasets", (*BASE, "geometry", "datasets")),
    ("model.loss.base", (*BASE, "model.base", "model.batch")),
    ("model.loss", (*BASE, "model.base", "model.batch", "model.loss.base")),
    ("model.kernels", (*BASE, "utils.compiled")),
    ("model.network", (*BASE, "model.base", "model.encodings", "model.kernels")),
    ("model.sampling", (*BASE, "geometry", "model.batch")),
    ("model", (*BASE, "model.base")),
    ("surface", (*BASE, "geometry", "surface")),
    ("report", (*BASE, "geometry", "surface", "report")),
    ("reconstruction", ("", *BELOW)),
    ("benchmarks", ("", *BELOW, "benchmarks")),
    ("shapespace", ("", *BELOW, "shapespace")),
]


def modules(code: Path) -> Iterator[tuple[str, ast.Module]]:
    """The dotted name and syntax tree of every module under a folder."""
    for path in sorted(code.rglob("*.py")):
        parts = path.relative_to(code).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(path.read_text())


def own_imports(tree: ast.Module) -> Iterator[str]:
    """The modules of ours that a syntax tree imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from phase_recon.utils import files` names a module, `from phase_recon.utils.files import write` a thing
            module = node.module or ""
            names = [f"{module}.{alias.name}" if module.count(".") < 2 else module for alias in node.names]
            names = ["." * node.level + module] if node.level else names
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield name.removeprefix(PACKAGE).removeprefix(".")
            elif name.startswith(".") or name.split(".")[0] in ROOMS:
                yield f"bare {name}"  # which another package's or a user's own module may hide


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(code: Path) -> list[str]:
    """"a imports b" for every import that the rules do not allow."""
    found = []
    for name, tree in modules(code):
        allowed = next((allowed for who, allowed in RULES if within(name, (who,))), ())
        for imported in own_imports(tree):
            if imported != name and not within(imported, allowed):
                found.append(f"{name} imports {imported}")
    return found


def test_imports_go_one_way():
    assert len(list(modules(CODE))) > 20
    assert violations(CODE) == []


@pytest.mark.parametrize(
    ("module", "line", "imported"),
    [
        ("utils/errors.py", "import phase_recon.utils.config", "utils.config"),
        ("utils/general.py", "from phase_recon.datasets.pointcloud import PointCloud", "datasets.pointcloud"),
        ("utils/config.py", "def f():\n    from phase_recon.model import network", "model.network"),
        ("geometry/quadrics.py", "from phase_recon.model.batch import Batch", "model.batch"),
        ("geometry/quadrics.py", "from phase_recon.utils.config import Config", "utils.config"),
        ("surface/metrics.py", "from phase_recon.utils.config import Config", "utils.config"),
        ("surface/extract.py", "from phase_recon.reconstruction.field import NeuralField", "reconstruction.field"),
        ("report/plots.py", "if True:\n    import phase_recon.model.loss.phase as p", "model.loss.phase"),
        ("datasets/pointcloud.py", "from phase_recon.utils.config import Config", "utils.config"),
        ("model/network.py", "from phase_recon.model.loss.phase import PhaseLoss", "model.loss.phase"),
        ("model/sampling.py", "from phase_recon.model import network", "model.network"),
        ("model/loss/phase.py", "from phase_recon.model.loss.other import OtherLoss", "model.loss.other"),
        ("model/loss/base.py", "from phase_recon.model.loss.phase import PhaseLoss", "model.loss.phase"),
        ("model/loss/phase.py", "from . import other", "bare ."),
        ("reconstruction/run.py", "import phase_recon.benchmarks.shapes", "benchmarks.shapes"),
        ("reconstruction/run.py", "from phase_recon.shapespace.space import Space", "shapespace.space"),
        ("reconstruction/run.py", "from utils.errors import UserError", "bare utils.errors.UserError"),
        ("elsewhere.py", "from phase_recon.utils.errors import UserError", "utils.errors"),
    ],
)
def test_an_import_against_the_direction_is_found(tmp_path, module, line, imported):
    path = tmp_path / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"from phase_recon.utils.errors import UserError\nimport math\n{line}\n")
    name = module.removesuffix(".py").replace("/", ".")
    assert f"{name} imports {imported}" in violations(tmp_path)


def test_only_one_file_knows_of_gpus():
    say_so = {path.relative_to(CODE).as_posix() for path in CODE.rglob("*.py") if "cuda" in path.read_text().lower()}
    assert say_so == {"utils/distributed.py"}


def test_the_folder_code_does_not_hide_the_standard_library_s_module():
    assert not (CODE / "__init__.py").exists()
    for folder in (ROOT, CODE):
        check = "import code, pdb; code.InteractiveConsole"
        done = subprocess.run([sys.executable, "-c", check], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_training_begins_without_what_draws_and_measures():
    """Their libraries take half a second to import."""
    check = (
        "import sys; sys.path.insert(0, 'code');"
        "import phase_recon.reconstruction.batch, phase_recon.reconstruction.training;"
        "print({'matplotlib', 'plotly', 'skimage', 'trimesh'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_every_file_says_what_it_is_for():
    silent = [name for name, tree in modules(CODE) if tree.body and not ast.get_docstring(tree)]
    assert silent == []
