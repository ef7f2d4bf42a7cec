"""Find a class by its name in the configuration, and build an object from a section: the signature is the schema.

Parameter names are the keys, type hints decide which values are accepted, and defaults are the defaults. All problems
are collected, one line of text with the dotted key for each, so that a user sees all of them at once.
"""

import collections.abc
import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from phase_recon.utils.errors import UserError

CLOSE = 0.7  # similarity of two words, 0 to 1, from which one is taken for a slip of the other

T = TypeVar("T")

OWN_PACKAGE = __name__.partition(".")[0]  # phase_recon


_WRONG = object()  # takes the place of a value whose problem is in the list


class _Mismatch(Exception):
    """A value does not fit; the text says what was expected, or is empty if the problem is in the list already."""


def build(
    target: Callable[..., T], tree: Mapping[str, Any], prefix: str, problems: list[str], /, **given: Any
) -> T | None:
    """Call ``target`` with the entries of ``tree``, checked against its signature and type hints.

    A key is a parameter's name without an underscore at its end (``lambda`` sets ``lambda_``). Type hints may be bool,
    int, float, str, Any, Literal, a union (with None for null), list, Sequence, tuple, dict and dataclasses. A float
    accepts whole numbers, an int accepts 1e3; true and false are not numbers.

    Args:
        target: a class (dataclass or not) or a function.
        tree: the section as plain values.
        prefix: dotted path of the section, such as ``network.loss``; empty for the whole configuration.
        problems: each problem is appended to it, such as ``train.seed = 'x': expected a whole number``. Each line
            ``key: text`` of a ValueError that the target raises is a problem, too.
        given: arguments that the program sets and the configuration cannot.

    Returns:
        The object, or None if it could not be made. If problems were appended, the object has defaults in place of
        the wrong values: it may only be used to find further problems.
    """
    parameters = {
        name.removesuffix("_"): parameter
        for name, parameter in inspect.signature(target, eval_str=True).parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    arguments: dict[str, Any] = {}
    wrong = set()
    for key, value in tree.items():
        path = _join(prefix, key)
        if key not in parameters:
            problems.append(f"{path}: unknown key; {_suggest(key, list(parameters), prefix)}")
            continue
        argument = _read(value, parameters[key].annotation, path, problems)
        if argument is _WRONG:
            wrong.add(key)
        else:
            arguments[parameters[key].name] = argument
    required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    missing = required - tree.keys()
    problems += [f"{_join(prefix, key)}: missing; it has no default" for key in sorted(missing)]
    if missing or required & wrong:
        return None
    try:
        return target(**arguments, **given)
    except ValueError as error:
        for line in str(error).splitlines():
            name, _, text = line.partition(": ")
            key = name.removesuffix("_")
            if key not in parameters or not text:
                problems.append(f"{prefix}: {line}" if prefix else line)
                continue
            if key not in wrong:
                problems.append(f"{_join(prefix, key)}: {text}")
            arguments.pop(parameters[key].name, None)
        with suppress(ValueError, TypeError):  # a required one is among them, or they do not fit each other
            return target(**arguments, **given)
        return None


def name_of_loss(kind: str) -> str:
    """The dotted name of a loss's class, by the type that a configuration names."""
    return f"model.loss.{kind}.{kind.capitalize()}Loss"


def find_class(dotted: str) -> type:
    """The class with a dotted name such as ``model.network.ImplicitNet``, as configurations of IGR have it.

    The name begins in this package: ``model`` is its folder model/. No module outside the package is imported.

    Raises:
        UserError: there is no such class in model/, of which the text lists what there is; or its file has a mistake.
    """
    module_name, _, name = dotted.removeprefix(f"{OWN_PACKAGE}.").rpartition(".")
    if not re.fullmatch(r"model(\.[A-Za-z]\w*)+", module_name, re.ASCII):
        raise UserError(
            f"{dotted!r}: expected a class of this project's model package, such as model.network.ImplicitNet"
        )
    package = importlib.import_module(f"{OWN_PACKAGE}.model")
    modules = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    names = [info.name.removeprefix(f"{OWN_PACKAGE}.") for info in modules]
    if module_name not in names:
        folder, _, last = module_name.rpartition(".")
        beside = [other.rpartition(".")[2] for other in names if other.rpartition(".")[0] == folder]
        told = _suggest(last, beside, folder) if beside else f"expected one of {', '.join(names)}"
        raise UserError(f"{dotted}: no module {module_name}; {told}")
    try:
        module = importlib.import_module(f"{OWN_PACKAGE}.{module_name}")
    except Exception as error:  # whatever a user's own file may do
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"{dotted}: {module_name} cannot be imported ({what}); mend that file") from error
    classes = {
        key: value
        for key, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and not key.startswith("_")
    }
    if name not in classes:
        known = ", ".join(classes) or "none"
        raise UserError(f"{dotted}: no class {name} in {module_name}; there are {known}")
    return classes[name]


def _read(value: Any, hint: Any, path: str, problems: list[str]) -> Any:
    """The value converted to the type of its hint; if it does not fit, ``_WRONG``, and the problem is appended."""
    try:
        return _convert(value, hint, path, problems)
    except _Mismatch as mismatch:
        if str(mismatch):
            problems.append(f"{path} = {_show(value)}: expected {mismatch}")
        return _WRONG


def _convert(value: Any, hint: Any, path: str, problems: list[str]) -> Any:
    """The value converted to the type of its hint; raises _Mismatch if it does not fit."""
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind in (Any, inspect.Parameter.empty):
        return value
    if kind in (Union, types.UnionType):
        return _convert_union(value, args, path, problems)
    if kind is Literal:
        chosen = any(type(value) is type(choice) and value == choice for choice in args)
        return _check(value, chosen, "one of " + ", ".join(map(str, args)))
    if kind is bool:
        return _check(value, isinstance(value, bool), "true or false")
    if kind is int:
        whole = _is_number(value) and value == int(value) and abs(value) < 2**63
        return int(_check(value, whole, "a whole number"))
    if kind is float:
        return float(_check(value, _is_number(value), "a number"))
    if kind is str:
        return _check(value, isinstance(value, str), "text in quotes")
    if kind in (list, tuple, collections.abc.Sequence):
        return _convert_list(value, kind, args, path, problems)
    if kind in (dict, collections.abc.Mapping):
        _check(value, isinstance(value, Mapping), "a section { }")
        hint = args[1] if args else Any
        return _all({key: _read(entry, hint, _join(path, key), problems) for key, entry in value.items()})
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _check(value, isinstance(value, Mapping), "a section { }")
        built = build(kind, value, path, problems)
        if built is None:
            raise _Mismatch
        return built
    raise TypeError(f"{path}: a configuration cannot hold a {hint}")


def _convert_union(value: Any, hints: tuple[Any, ...], path: str, problems: list[str]) -> Any:
    if value is None and type(None) in hints:
        return None
    expected = []
    for hint in hints:
        if hint is type(None):
            expected.append("null")
            continue
        try:
            return _convert(value, hint, path, problems)
        except _Mismatch as mismatch:
            if not str(mismatch):
                raise
            expected.append(str(mismatch))
    raise _Mismatch(" or ".join(expected))


def _convert_list(value: Any, kind: Any, args: tuple[Any, ...], path: str, problems: list[str]) -> Any:
    _check(value, isinstance(value, (list, tuple)), "a list [ ]")
    if kind is tuple and args and args[-1] is not Ellipsis:
        _check(value, len(value) == len(args), f"a list of {len(args)} entries")
        hints = args
    else:
        hints = (args[0] if args else Any,) * len(value)
    pairs = enumerate(zip(value, hints, strict=True))
    items = _all({i: _read(entry, hint, f"{path}[{i}]", problems) for i, (entry, hint) in pairs}).values()
    return tuple(items) if kind is tuple else list(items)


def _all(items: dict[Any, Any]) -> dict[Any, Any]:
    """The entries, if none is wrong."""
    if any(item is _WRONG for item in items.values()):
        raise _Mismatch
    return items


def _check(value: Any, accepted: bool, expected: str) -> Any:
    if not accepted:
        raise _Mismatch(expected)
    return value


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; a comparison, as very large integers cannot be converted to float."""
    finite = isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return finite and not isinstance(value, bool)


def _suggest(key: str, known: list[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=CLOSE)
    if close:
        return f"did you mean {_join(prefix, close[0])}?"
    return f"expected one of {', '.join(known)}" if known else "expected none"


def _show(value: Any) -> str:
    """A value as it is written in HOCON, on one line of at most about 60 characters."""
    if isinstance(value, Mapping):
        return "{ }" if not value else f"{{ {next(iter(value))} ... }}"
    text = {"True": "true", "False": "false", "None": "null"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else f"{text[:60]}..."


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
