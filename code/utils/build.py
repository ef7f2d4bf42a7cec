"""Find a class by the name the configuration gives, and build an object: its signature is the schema.

Parameter names are the keys, type hints say what is accepted, defaults are the defaults. Every problem is
noted as a line of text with its dotted key, so that a user sees all of them at once.
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
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from phase_recon.utils.errors import UserError

T = TypeVar("T")

OWN_PACKAGE = __name__.partition(".")[0]  # phase_recon


_WRONG = object()  # stands for a value whose problem has been noted


class _Mismatch(Exception):
    """What was expected of a value; empty where the problem has been noted already."""


def build(
    target: Callable[..., T], tree: Mapping[str, Any], prefix: str, problems: list[str], /, **given: Any
) -> T | None:
    """Call ``target`` with the entries of ``tree``, checked against its signature and type hints.

    A key is a parameter's name without a closing underscore (``lambda`` sets ``lambda_``). Hints may be
    bool, int, float, str, Any, Literal, a union (with None for null), list, Sequence, tuple, dict and
    dataclasses. A whole number passes for a float, 1e3 for an int; true and false are no numbers.

    Args:
        target: a class (dataclass or not) or a function.
        tree: plain values, as parsed.
        prefix: dotted path of the section, such as ``network.loss``; empty for the whole configuration.
        problems: each problem found is appended, as ``train.seed = 'x': expected a whole number``. A
            ValueError of the target counts as one per line of its message; lines are ``key: text``.
        given: arguments that the program sets; the configuration cannot.

    Returns:
        The object, or None if it could not be made. If ``problems`` grew, a returned object has defaults
        in place of what was wrong: good for looking for more problems, and for nothing else.
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
            problems.append(f"{path}: unknown key; {_suggest(key, list(parameters))}")
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
            elif key not in wrong:
                problems.append(f"{_join(prefix, key)}: {text}")
        return None


def find_class(dotted: str) -> type:
    """The class that a dotted name such as ``model.network.ImplicitNet`` means, as the IGR family writes them.

    The name begins in this package: ``model`` is its folder model/.

    Raises:
        UserError: any other name. Nothing outside the package is imported on the way.
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
        beside = [other for other in names if other.rpartition(".")[0] == module_name.rpartition(".")[0]] or names
        raise UserError(f"{dotted}: no module {module_name}; there are {', '.join(beside)}")
    module = importlib.import_module(f"{OWN_PACKAGE}.{module_name}")
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
    """The value as its hint wants it; ``_WRONG``, with the problem noted, if it does not fit."""
    try:
        return _convert(value, hint, path, problems)
    except _Mismatch as mismatch:
        if str(mismatch):
            problems.append(f"{path} = {_show(value)}: expected {mismatch}")
        return _WRONG


def _convert(value: Any, hint: Any, path: str, problems: list[str]) -> Any:
    """The value as its hint wants it; raises _Mismatch if it does not fit."""
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
    """Whether it is a finite number (a comparison, for whole numbers too large to convert)."""
    finite = isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return finite and not isinstance(value, bool)


def _suggest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    return f"expected one of {', '.join(known)}" if known else "expected none"


def _show(value: Any) -> str:
    """A value as a user would recognise it, on one line and not too long."""
    if isinstance(value, Mapping):
        return "{ }" if not value else f"{{ {next(iter(value))} ... }}"
    text = {"True": "true", "False": "false", "None": "null"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else f"{text[:60]}..."


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
