"""Texts that are merged over a configuration, and which key one of them means that stands in the wrong place."""

import dataclasses
import difflib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from phase_recon.utils.build import CLOSE, find_class, name_of_loss
from phase_recon.utils.errors import UserError

# parameters of networks and losses that no key sets
SET_BY_THE_PROGRAM = ("d_in", "latent_size", "output")


class Override(NamedTuple):
    """A HOCON text that is merged over a configuration, and the flag or the argument that it stands for."""

    text: str
    flag: str


def given(flags: Iterable[tuple[str, str, Any]]) -> list[Override]:
    """The overrides of (flag, key, value), but for those whose value is None."""
    return [Override(assignment(key, value), flag) for flag, key, value in flags if value is not None]


def assignment(key: str, value: Any) -> str:
    """The HOCON text that sets a dotted key.

    JSON is HOCON, but for escaped letters: pyhocon would leave the six of \\u00fc as they are. So letters stand in it.
    """
    return f"{key} = {json.dumps(value, ensure_ascii=False, default=_plain)}"


def values_of(text: str | Override) -> dict[str, Any]:
    """What a HOCON text sets, by dotted key; nothing if it is no HOCON, which is refused where it is merged."""
    from phase_recon.utils.hocon import parse  # pyhocon, for which --help would wait

    try:
        return flat(parse(text if isinstance(text, str) else text.text, "").tree)
    except UserError:
        return {}


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of nested dicts by their dotted keys, which begin with ``above``."""
    parts = [
        flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
        for key, value in tree.items()
    ]
    return {key: value for part in parts for key, value in part.items()}


def _plain(value: Any) -> Any:
    """A numpy number or array, or a path, as JSON has it.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not hasattr(value, "tolist"):
        raise UserError(f"{value!r}: no value of a key; expected a number, a text, a list or null (None)")
    return value.tolist()


def meant_key(key: str, tree: Mapping[str, Any], sections: Mapping[str, type]) -> str | None:
    """The known key whose last part an unknown key has, or nearly has: ``epsilon`` → ``network.loss.epsilon``.

    Args:
        key: dotted.
        tree: the configuration, which names the classes of the network and of the loss.
        sections: the dataclass of each of its sections.

    Returns:
        None where there is no such key, and where ``build`` can say more: for a key with a close relative in its own
        section, and for the parameters of the classes that the configuration names.
    """
    section, _, word = key.rpartition(".")
    if key in sections or "[" in key or key.startswith(("network.inputs", "network.loss")):
        return None
    known = list(_known_keys(tree, sections))
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
    if key in known or difflib.get_close_matches(word, beside, n=1, cutoff=CLOSE):
        return None
    by_word = {name.rpartition(".")[2]: name for name in reversed(known)}
    if section in sections and word not in by_word:  # the list of that section's keys says more
        return None
    close = difflib.get_close_matches(word, list(by_word), n=1, cutoff=CLOSE)
    return by_word[close[0]] if close else None


def _known_keys(tree: Mapping[str, Any], sections: Mapping[str, type]) -> Iterator[str]:
    """The dotted keys of a configuration, those of the classes that it names included."""
    for name, section in sections.items():
        yield from _fields(section, f"{name}.")
    yield "network.loss.type"
    train, network = (_below(tree, name) for name in ("train", "network"))
    loss = str(_below(network, "loss").get("type", "phase"))
    classes = {
        "network.inputs": str(train.get("network_class", "model.network.ImplicitNet")),
        "network.loss": name_of_loss(loss),
    }
    for prefix, dotted in classes.items():
        try:
            parameters = inspect.signature(find_class(dotted)).parameters
        except UserError:  # which is said elsewhere
            continue
        yield from (f"{prefix}.{key.removesuffix('_')}" for key in parameters if key not in SET_BY_THE_PROGRAM)


def _fields(kind: type, prefix: str) -> Iterator[str]:
    """The dotted keys of a dataclass and of those within it."""
    for entry in dataclasses.fields(kind):
        if isinstance(entry.type, type) and dataclasses.is_dataclass(entry.type):
            yield from _fields(entry.type, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}"


def _below(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The section of that name; an empty one if there is none."""
    below = tree.get(name)
    return below if isinstance(below, Mapping) else {}
