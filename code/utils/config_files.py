"""Reads configurations: from a file, from plain dicts, with values that the command line replaces; and writes them.

All problems of a configuration are said at once, each with its line in the file or its flag.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypeVar

from phase_recon.utils.build import build
from phase_recon.utils.config import Config
from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import merge, parse, read_file, write
from phase_recon.utils.overrides import Override, flat, meant_key

OR_NULL = re.compile(",? or null")  # in what a key expects; a flag is left out instead
Kind = TypeVar("Kind", bound=Config, default=Config)  # of configuration
Checks = Callable[[Any, list[str]], None]


def load_config(
    path: Path,
    overrides: Sequence[str | Override] = (),
    checks: Checks | None = None,
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """Read a configuration file and check it completely.

    Args:
        path: HOCON file.
        overrides: HOCON texts such as ``train.seed=3``, which replace values of the file, in this order.
            Errors call them --set, but for an ``Override``, which names its flag.
        checks: a function of the configuration and a list, to which it appends further problems, in the form that
            ``build`` uses. Values that are wrong already have been replaced by defaults then.
        kind: the class of the configuration, whose fields are the keys.

    Raises:
        UserError: the file cannot be read or is not HOCON, or a list of all problems in it.
    """
    document = parse(read_file(path), str(path))
    lines = {key: f"line {line}" for key, line in document.lines.items()}
    tree, places = _with_overrides(kind, document.tree, overrides, "--set")
    tree, idle = _without_family_keys(tree, kind.idle)
    idle += _without_idle_skips(tree)
    warnings = (f"{path}: keys without meaning here: {'; '.join(idle)}",) if idle else ()
    return _checked(kind, tree, str(path), warnings, lines | places, checks)


def config_from_dict(
    tree: Mapping[str, Any],
    source: str = "checkpoint",
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """The configuration of a kind from nested dicts as its ``to_dict`` gives them; ``source`` names them in errors.

    Raises:
        UserError: a key is unknown, or a value has a wrong type or is out of range.
    """
    return _checked(kind, tree, source)


def override(
    tree: Mapping[str, Any],
    overrides: Sequence[str | Override],
    checks: Checks | None = None,
    source: str = "checkpoint",
    place: str = "--set",
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """The configuration from nested dicts, with HOCON texts that replace values of it.

    Args:
        tree: nested dicts as ``Config.to_dict`` gives them.
        overrides: the texts, in their order.
        checks: as for ``load_config``.
        source: the name of the dicts in errors.
        place: the name of the texts in errors; empty if all keys come from them.
        kind: the class of the configuration.

    Raises:
        UserError: as ``load_config``.
    """
    merged, places = _with_overrides(kind, tree, overrides, place)
    return _checked(kind, merged, source, (), places, checks)


def differences(config: Config, other: Config) -> dict[str, Any]:
    """The values of ``other`` that differ from those of ``config``, by dotted key."""
    before, now = flat(config.to_dict()), flat(other.to_dict())
    return {key: now.get(key) for key in {**before, **now} if before.get(key) != now.get(key)}


def to_hocon(config: Config) -> str:
    """The whole configuration as HOCON text, which ``load_config`` reads back equal."""
    return write(config.to_dict())


def _with_overrides(
    kind: type[Config], tree: Mapping[str, Any], overrides: Sequence[str | Override], place: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The tree with values replaced by HOCON texts, in order; and for each of their keys, ``place`` or its flag."""
    merged, places = dict(tree), dict[str, str]()
    for item in overrides:
        text, where = item if isinstance(item, Override) else (item, place)
        source = f"{where} {text!r}".strip()
        if where == "--set" and not re.search("[={:]", text):
            raise UserError(f"{source}: expected KEY=VALUE, such as --set train.seed=3")
        given = parse(text, source)
        if not given.tree:
            raise UserError(f"{source}: expected KEY=VALUE, such as --set train.seed=3")
        for key in given.lines:
            section = any(other.startswith((f"{key}.", f"{key}[")) for other in given.lines)
            if not section and key not in kind.idle and (meant := meant_key(key, tree, kind.sections)):
                raise UserError(f"{source}: unknown key; did you mean {meant}?")
        merged = merge(merged, given.tree)
        places |= dict.fromkeys(given.lines, where)
    return merged, places


def _checked(
    kind: type[Kind],
    tree: Mapping[str, Any],
    source: str,
    warnings: tuple[str, ...] = (),
    places: Mapping[str, str] | None = None,
    checks: Checks | None = None,
) -> Kind:
    problems: list[str] = []
    config = build(kind, tree, "", problems, warnings=warnings)
    if config is not None and checks is not None:
        checks(config, problems)
    if config is None or problems:
        raise _error(source, problems, places or {})
    return config


def _error(source: str, problems: Sequence[str], places: Mapping[str, str]) -> UserError:
    """One error with all problems, each with its line in the file where that is known."""
    texts, alone = [], True  # whether all are of flags or arguments, whose mistakes are not the file's
    for problem in problems:
        key = re.split(": | = ", problem)[0]
        place = places.get(key) or places.get(key.split("[")[0]) or ""
        if place and not place.startswith(("--set", "line ")):  # it needs no key beside it, and has no null
            texts.append(place + OR_NULL.sub("", problem.removeprefix(key)))
        else:
            texts.append(f"{place}: {problem}" if place else problem)
            alone &= place == "--set"
    if len(texts) == 1:
        return UserError(texts[0] if alone else f"{source}: {texts[0]}")
    if alone:
        source = "the command line" if texts[0].startswith("--") else "the arguments"
    return UserError(f"{source}: {len(texts)} problems in the configuration", *texts)


def _without_family_keys(
    tree: dict[str, Any], idle_keys: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The tree without idle keys, and a text for each one that was in it, with the reason."""
    tree = copy.deepcopy(tree)
    is_phase = _section(tree, "network.loss").get("type", "phase") == "phase"
    idle = []
    for path, reason in idle_keys.items():
        parent, _, key = path.rpartition(".")
        section = _section(tree, parent)
        if key in section and (is_phase or parent != "network.loss"):  # another loss may have such a weight
            del section[key]
            idle.append(f"{path} ({reason})")
    sampler = _section(tree, "network.sampler")
    if sampler.get("sampler_type") == "NormalPerPoint":
        sampler["sampler_type"] = "Uniform"
        reason = "read as Uniform: the family's PHASE drew Ω uniformly whatever it said"
        if not is_phase:
            reason = "read as Uniform: points about the data are drawn where the loss asks for them"
        idle.append(f"network.sampler.sampler_type = NormalPerPoint ({reason})")
    return tree, idle


def _without_idle_skips(tree: dict[str, Any]) -> list[str]:
    """Remove skips into layers that there are none of, as IGR's code never comes to them; a text for each of them."""
    inputs = _section(tree, "network.inputs")
    dims, skips = inputs.get("dims"), inputs.get("skip_in")
    if not isinstance(dims, list) or not isinstance(skips, list) or not all(type(i) is int for i in skips):
        return []
    idle = [i for i in skips if i > len(dims)]
    inputs["skip_in"] = [i for i in skips if i not in idle]
    return [f"network.inputs.skip_in = {i} (the output is layer {len(dims)}, the last)" for i in idle]


def _section(tree: dict[str, Any], path: str) -> dict[str, Any]:
    """The section at a dotted path; an empty one if there is none."""
    for name in path.split("."):
        below = tree.get(name)
        tree = below if isinstance(below, dict) else {}
    return tree
