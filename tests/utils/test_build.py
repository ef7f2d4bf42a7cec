"""Objects from sections: types, suggestions, nesting, and where a ValueError ends up."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from phase_recon import model
from phase_recon.utils.build import build, find_class
from phase_recon.utils.errors import UserError


@dataclass(frozen=True)
class Inner:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size: expected at least 0")


@dataclass(frozen=True)
class Outer:
    count: int = 0
    rate: float = 0.5
    on: bool = False
    name: str = "n"
    kind: Literal["u", "w"] = "u"
    limit: float | None = None
    widths: list[int] = field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    series: Sequence[float] = ()
    weights: dict[str, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    either: int | str = 0


class Loss:
    """A plain class, with a required key, a Python keyword and an argument of the program's."""

    def __init__(self, weight: float, lambda_: float = 1.0, *, d: int) -> None:
        if lambda_ <= 0 or weight <= 0:
            raise ValueError("lambda: must be above 0\nweight: must be above 0\nin all it is wrong")
        self.weight, self.lambda_, self.d = weight, lambda_, d


def outer(**tree: Any) -> Outer:
    problems: list[str] = []
    built = build(Outer, tree, "s", problems)
    assert problems == []
    assert built is not None
    return built


def problems_of(target: Any, tree: Mapping[str, Any], **given: Any) -> list[str]:
    problems: list[str] = []
    build(target, tree, "s", problems, **given)
    return problems


def test_a_value_that_is_refused_leaves_the_others_of_its_section_as_they_are():
    problems: list[str] = []
    built = build(Outer, {"inner": {"size": -1}, "count": 3}, "s", problems)
    assert (problems, built) == (["s.inner.size: expected at least 0"], Outer(count=3))
    problems = []
    assert build(Loss, {"weight": 2.0, "lambda": -1.0}, "s", problems, d=3) is None  # its error blames weight, too


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("count", 1e3, 1000),
        ("count", 1.0, 1),
        ("rate", 2, 2.0),
        ("on", True, True),
        ("kind", "w", "w"),
        ("limit", None, None),
        ("limit", 3, 3.0),
        ("widths", [1, 2.0], [1, 2]),
        ("pair", [1, 2], (1.0, 2.0)),
        ("many", [], ()),
        ("series", [1], [1.0]),
        ("weights", {"a": 1}, {"a": 1.0}),
        ("free", {"a": [1, {"b": "c"}]}, {"a": [1, {"b": "c"}]}),
        ("inner", {"size": 4}, Inner(4)),
        ("inners", [{}, {"size": 2}], (Inner(1), Inner(2))),
        ("either", "x", "x"),
    ],
)
def test_accepted(key, value, expected):
    built = getattr(outer(**{key: value}), key)
    assert built == expected
    assert type(built) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("count", "many", "'many': expected a whole number"),
        ("count", 1e-4, "0.0001: expected a whole number"),
        ("count", True, "true: expected a whole number"),
        ("count", None, "null: expected a whole number"),
        ("count", float("nan"), "nan: expected a whole number"),
        ("rate", "1.", "'1.': expected a number"),
        ("rate", False, "false: expected a number"),
        ("rate", float("inf"), "inf: expected a number"),
        ("on", 1, "1: expected true or false"),
        ("on", "yes", "'yes': expected true or false"),
        ("name", 3, "3: expected text in quotes"),
        ("kind", "v", "'v': expected one of u, w"),
        ("limit", "x", "'x': expected a number or null"),
        ("widths", 3, "3: expected a list [ ]"),
        ("pair", [1], "[1]: expected a list of 2 entries"),
        ("weights", [1], "[1]: expected a section { }"),
        ("inner", 3, "3: expected a section { }"),
        ("either", [1], "[1]: expected a whole number or text in quotes"),
        ("count", "x" * 100, f"'{'x' * 59}...: expected a whole number"),
        ("count", {"a": 1}, "{ a ... }: expected a whole number"),
    ],
)
def test_wrong_type(key, value, text):
    assert problems_of(Outer, {key: value}) == [f"s.{key} = {text}"]


def test_number_too_large_for_a_float():
    (problem,) = problems_of(Outer, {"rate": 10**400})
    assert problem.endswith(": expected a number")


def test_wrong_entries_are_named_by_their_place():
    tree = {"widths": [1, "x", 2.5], "weights": {"a": "b"}, "inners": [{}, {"size": "x"}, 3]}
    assert problems_of(Outer, tree) == [
        "s.widths[1] = 'x': expected a whole number",
        "s.widths[2] = 2.5: expected a whole number",
        "s.weights.a = 'b': expected a number",
        "s.inners[1].size = 'x': expected a whole number",
        "s.inners[2] = 3: expected a section { }",
    ]


def test_unknown_keys():
    assert problems_of(Outer, {"coumt": 1}) == ["s.coumt: unknown key; did you mean s.count?"]
    assert problems_of(Inner, {"zzz": 1}) == ["s.zzz: unknown key; expected one of size"]
    assert problems_of(object, {"zzz": 1}) == ["s.zzz: unknown key; expected none"]


def test_nested_range_error_has_its_path_and_stops_nothing_else():
    problems: list[str] = []
    built = build(Outer, {"inner": {"size": -1}, "count": "x", "rate": 3}, "", problems)
    assert problems == ["inner.size: expected at least 0", "count = 'x': expected a whole number"]
    assert built == Outer(rate=3.0)


def test_keyword_and_given():
    problems: list[str] = []
    loss = build(Loss, {"lambda": 2, "weight": 3}, "loss", problems, d=2)
    assert loss is not None
    assert (loss.lambda_, loss.weight, loss.d, problems) == (2.0, 3.0, 2, [])


def test_given_is_no_key():
    assert problems_of(Loss, {"weight": 1, "d": 3}, d=2) == [
        "s.d: unknown key; expected one of weight, lambda"
    ]


def test_missing():
    assert problems_of(Loss, {}, d=2) == ["s.weight: missing; it has no default"]


def test_value_error_lines_become_problems():
    assert problems_of(Loss, {"weight": 1, "lambda": -1}, d=2) == [
        "s.lambda: must be above 0",
        "s.weight: must be above 0",
        "s: in all it is wrong",
    ]


def test_key_already_reported_is_not_reported_again():
    assert problems_of(Loss, {"weight": -1, "lambda": "x"}, d=2) == [
        "s.lambda = 'x': expected a number",
        "s.weight: must be above 0",
        "s: in all it is wrong",
    ]


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A module model.shapes, and a module beside the package that must not be imported."""
    (tmp_path / "shapes.py").write_text(
        "from pathlib import Path\nclass Disc: pass\nclass _Own: pass\nx = 1\n"
    )
    (tmp_path / "outsider.py").write_text("class Disc: pass\n")
    monkeypatch.setattr(model, "__path__", [str(tmp_path)])
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("phase_recon.model.shapes", None)


@pytest.mark.usefixtures("shapes")
def test_find_class():
    found = find_class("model.shapes.Disc")
    assert (found.__name__, found.__module__) == ("Disc", "phase_recon.model.shapes")


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize("name", ["Square", "Path", "_Own", "x"])
def test_find_class_lists_the_classes_of_the_module(name):
    with pytest.raises(
        UserError, match=rf"^model.shapes.{name}: no class {name} in model.shapes; there are Disc$"
    ):
        find_class(f"model.shapes.{name}")


@pytest.mark.usefixtures("shapes")
def test_find_class_lists_the_modules():
    with pytest.raises(
        UserError, match=r"^model.nothing.Net: no module model.nothing; expected one of outsider"
    ):
        find_class("model.nothing.Net")


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize(
    "name", ["outsider.Disc", "os.system", "Disc", "", "model.Disc", "model..Disc", "models.a.B"]
)
def test_find_class_imports_nothing_outside_the_package(name):
    with pytest.raises(UserError, match="expected a class of this project's model package"):
        find_class(name)
    assert "outsider" not in sys.modules
