"""The pages: links lead somewhere, the files, flags and keys that are named exist, and README is short."""

import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import ROOT, Field
from phase_recon.datasets.readers import READERS
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.preprocess import STAGES
from phase_recon.shapespace.flags import of_evaluation
from phase_recon.utils.build import build
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import load_config, override

README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "data" / "README.md", *(ROOT / "docs").glob("*.md")])
# Pages of the versions that they name, with the files, flags and keys of these
OF_THE_PAST = {"ABLATION_NOTEBOOK.md"}
PRESENT = [page for page in PAGES if page.name not in OF_THE_PAST]
COMMANDS = ("run", "compare", "orient", "benchmark", "bench_step", "bench_detail", "bench_start", "bench_jobs")

MOST_WORDS = 1200
# Flags of torchrun, Slurm, the fuzzer and the script of data/; and files that a reader is to make, or has
FOREIGN_FLAGS = {
    "nproc-per-node", "nnodes", "rdzv-backend", "rdzv-endpoint", "rdzv-id", "job-name", "nodes", "ntasks-per-node",
    "gpus-per-node", "cpus-per-task", "time", "requeue", "open-mode", "signal", "inputs", "replay", "analytic",
}  # fmt: skip
TO_BE_MADE = {
    "code/model/loss/mine.py", "code/confs/mine.conf", "config.conf", "my.conf", "your_setup.conf", "utils.py",
}  # fmt: skip


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def code_of(text: str) -> str:
    """The code of a page: its blocks and what stands in backticks."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures that are not on the web."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name}: no heading {anchor}"


@pytest.mark.parametrize("page", PRESENT, ids=names(PRESENT))
def test_files_that_are_named_exist(page):
    known = [path for folder in ("code", "tests", "data", "docs") for path in (ROOT / folder).rglob("*.*")]
    known += [path for path in ROOT.iterdir() if path.is_file()]
    ends = [f"/{path.relative_to(ROOT).as_posix()}" for path in known]
    own = r"(?<![\w./<>~$-])((?:code|tests|data|docs)/[\w/.-]+\.\w+|[\w/-]+\.(?:py|conf|c|md))(?![\w/])"
    missing = {
        name
        for name in re.findall(own, code_of(page.read_text()))
        if name not in TO_BE_MADE and not any(end.endswith(f"/{name}") for end in ends)
    }
    assert missing == set()


def test_readme_is_short():
    """At most 1 200 words, as wc counts them, and as one reads them: a table's bars are no words."""
    text = README.read_text()
    read = [word for word in text.replace("|", " ").split() if word.strip("-")]
    assert max(len(text.split()), len(read)) <= MOST_WORDS


def test_the_first_screen_has_the_commands_of_the_set_up():
    first = "\n".join(README.read_text().splitlines()[:25])
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in first
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_readme_names_the_formats_that_are_read():
    """Each of them, but for further extensions of text."""
    read = README.read_text().partition("**Reads**")[2].partition("**Writes**")[0]
    named = {READERS[f".{name}"].read for name in re.findall(r"\.([a-z]\w*)", " ".join(re.findall(r"`([^`]+)`", read)))}
    assert named == {reader.read for reader in READERS.values()}


def test_design_names_every_room_and_every_stage():
    text = (ROOT / "docs" / "DESIGN.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "code").glob("*/__init__.py")}
    named = {f"{room}/" for room in rooms} | {stage.__name__ for stage in STAGES}
    assert named - set(re.findall(r"`([^`]+)`", text)) == set()


def test_configuration_names_every_loss():
    losses = {path.stem for path in (ROOT / "code" / "model" / "loss").glob("[!_]*.py")} - {"base"}
    assert losses - set(re.findall(r"`(\w+)`", (ROOT / "docs" / "CONFIGURATION.md").read_text())) == set()


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """The flags of all commands, without their dashes, as --help lists them."""
    found = set()
    others = ("make_clouds", "sides", "reproduce", "comparison")
    for name in (*(f"reconstruction.{name}" for name in COMMANDS), *(f"benchmarks.{name}" for name in others)):
        command = import_module(f"phase_recon.{name}")
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr("sys.stdout", SimpleNamespace(write=said.append, flush=lambda: None))
            patch.setattr("sys.argv", [f"{name.rpartition('.')[2]}.py", "--help"])
            with pytest.raises(SystemExit):
                command.main()
        found |= set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", "".join(said)))
    found |= set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", of_evaluation("").format_help()))  # of a shape space
    return {flag.replace("_", "-") for flag in found}


@pytest.mark.parametrize("page", PRESENT, ids=names(PRESENT))
def test_flags_that_are_named_exist(page, flags):
    named = {flag.replace("_", "-") for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", code_of(page.read_text()))}
    assert named - flags - FOREIGN_FLAGS == set()


@pytest.mark.parametrize("page", PRESENT, ids=names(PRESENT))
def test_keys_that_are_set_are_accepted(page):
    for text in re.findall(r"--set ('[^'\n]+'|[^\s`'|]+)", page.read_text()):
        if (text := text.strip("'")) != "KEY=VALUE":
            override(Config().to_dict(), [text], check_model)


def test_the_configuration_of_the_published_method_is_there():
    assert load_config(ROOT / "code" / "confs" / "published.conf").network.output == "u"


def test_the_loss_that_readme_adds_works():
    """On a sphere's signed distance both of its terms vanish; on twice that, the slope is off by one."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = (text for text in blocks if "MineLoss" in text)
    assert len(block.splitlines()) <= 12
    made: dict[str, type] = {}
    exec(block, made)
    problems: list[str] = []
    loss = build(made["MineLoss"], {"weight": 0.5}, "network.loss", problems)
    assert problems == []
    assert dataclasses.is_dataclass(loss)
    torch.manual_seed(0)
    points, omega = torch.randn(2, 50, 3)
    batch = SimpleNamespace(
        points=points / points.norm(dim=-1, keepdim=True), omega=omega, weights=torch.full((50,), 8.0), volume=8.0
    )
    terms = loss(Field(lambda x: x.norm(dim=-1) - 1), batch)
    assert set(terms) == {"surface", "eikonal"}
    assert all(abs(float(term.detach())) < 1e-6 for term in terms.values())
    terms = loss(Field(lambda x: 2 * x.norm(dim=-1) - 1), batch)
    assert float(terms["surface"].detach()) == pytest.approx(1.0, abs=1e-6)
    assert float(terms["eikonal"].detach()) == pytest.approx(0.5, abs=1e-5)  # weight · (2 - 1)²
