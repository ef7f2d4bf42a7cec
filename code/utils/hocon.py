"""Read and write HOCON: text to plain dicts, lists and scalars, with the line of every key, and back.

pyhocon does the parsing. It accepts some things that are mostly mistakes (a key that is set twice, an included file, a
value from the environment), so the text is scanned for these first. Which keys exist is not known here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyhocon.config_parser
from pyhocon.config_tree import NoneValue
from pyhocon.exceptions import ConfigException
from pyparsing import NoMatch, ParseBaseException, ParserElement

from phase_recon.utils.errors import UserError

MAX_BYTES = 100_000  # largest file: a configuration has a few pages; a larger file is probably a wrong path
MAX_DEPTH = 20  # most brackets within brackets: setup.conf has five

# pyhocon reads 3d as three days; durations have no use here, and a run may be called 3d.
pyhocon.config_parser.get_period_expr = NoMatch

_TOKEN = re.compile(
    r'''
    (?P<comment>(?:\#|//)[^\n]*)
  | (?P<string>"""(?s:.*?)"*"""|"(?:[^"\\\n]|\\.)*")
  | (?P<include>(?i:include)(?=[ \t]*(?:"|(?:url|file|package|required)[ \t]*\()))
  | (?P<substitution>\$\{)
  | (?P<append>\+=)
  | (?P<open>[{\[])
  | (?P<close>[}\]])
  | (?P<assign>[=:])
  | (?P<separator>[,\n])
  | (?P<blank>[ \t]+)
  | (?P<text>(?:(?!//|\+=)[^\s{}\[\],=:"\#$])+|.)
    ''',
    re.VERBOSE,
)
_SECTION_FOLLOWS = re.compile(r"\s*\{")
_REFUSED = {
    "include": "include is not supported; write everything into one file",
    "substitution": "substitutions ${...} are not supported; write the value itself",
    "append": "+= is not supported; write the whole value with =",
}


@dataclass(frozen=True)
class Document:
    """A parsed text: ``tree`` of plain values, and the line of each dotted key (``train.seed`` -> 12).

    Keys of sections in a list carry their index: ``train.learning_rate_schedule[0].Type``.
    """

    tree: dict[str, Any]
    lines: dict[str, int]


def read_file(path: Path) -> str:
    """The text of a configuration file, UTF-8.

    Raises:
        UserError: the file is missing, a folder, unreadable, larger than ``MAX_BYTES`` or not UTF-8.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give a configuration file, such as setup.conf")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not an ordinary file; give a configuration file, such as setup.conf")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: {size} bytes is too large for a configuration (at most {MAX_BYTES})")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file; check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def parse(text: str, source: str) -> Document:
    """Parse HOCON text; ``source`` names it in errors.

    Raises:
        UserError: the text is not HOCON, sets a key twice, or uses include, ``${...}`` or ``+=``. The error
            names the line.
    """
    lines = _Scan(source).lines_of_keys(text)
    whitespace = ParserElement.DEFAULT_WHITE_CHARS
    try:
        tree = pyhocon.ConfigFactory.parse_string(_without_comments(text), resolve=False)
    except ParseBaseException as error:
        found = error.line[error.column - 1 :].strip() or error.line.strip() or "the end"
        raise UserError(
            f"{source}: line {error.lineno}: not HOCON near {found[:60]!r};"
            " expected key = value, a section { } or a comment"
        ) from None
    except ConfigException as error:
        raise UserError(f"{source}: not HOCON: {' '.join(str(error).split())}") from None
    finally:  # when pyhocon fails, it leaves pyparsing's global setting changed
        ParserElement.set_default_whitespace_chars(whitespace)
    if not isinstance(tree, dict):
        raise UserError(f"{source}: a list; expected keys and sections")
    return Document(_plain(tree), lines)


def merge(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with the values of ``over`` added, or in place of its own; sections are merged, lists replaced."""
    merged = dict(tree)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def write(tree: Mapping[str, Any], indent: str = "") -> str:
    """The HOCON text of nested dicts, lists and scalars, indented; ``parse`` reads it back equal."""
    text = ""
    for key, value in tree.items():
        name = key if key.isidentifier() else json.dumps(key, ensure_ascii=False)
        if isinstance(value, Mapping):
            text += f"{indent}{name} {{\n{write(value, indent + '    ')}{indent}}}\n"
        else:  # JSON is HOCON
            text += f"{indent}{name} = {json.dumps(value, ensure_ascii=False)}\n"
    return text


def _without_comments(text: str) -> str:
    """The text with its lines where they were; pyhocon takes a fifth of a second for setup.conf's comments."""
    return _TOKEN.sub(lambda token: "" if token.lastgroup == "comment" else token.group(), text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.strip('"'): _plain(item) for key, item in value.items()}
    if isinstance(value, NoneValue):  # pyhocon keeps its own null in nested lists
        return None
    return [_plain(item) for item in value] if isinstance(value, list) else value


@dataclass
class _Frame:
    """An open bracket, and the state of the entry that is being read in it."""

    bracket: str
    path: str
    line: int
    key: str = ""  # the text of a key that has no value yet
    target: str | None = None  # the path whose value is being read
    started: bool = False  # whether some of that value has been seen
    items: int = 0  # brackets opened so far in a list


class _Scan:
    """One pass over a text that finds the line of every key, and refuses some mistakes that pyhocon accepts."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self.sections: set[str] = set()
        self.frames = [_Frame("", "", 1)]

    def lines_of_keys(self, text: str) -> dict[str, int]:
        line = 1
        for token in _TOKEN.finditer(text):
            kind = token.lastgroup or ""
            if kind in _REFUSED:
                raise self._error(line, _REFUSED[kind])
            if kind == "open":
                self._open(token.group(), line)
            elif kind == "close":
                self._close(token.group(), line)
            elif kind != "comment" and self.frames[-1].bracket != "[":
                self._entry(kind, token, line)
            line += token.group().count("\n")
        if len(self.frames) > 1:
            frame = self.frames[-1]
            raise self._error(frame.line, f"this {frame.bracket} is never closed")
        return self.lines

    def _entry(self, kind: str, token: re.Match[str], line: int) -> None:
        """A token of ``key = value`` in a section."""
        frame = self.frames[-1]
        if frame.target is None:
            if kind == "assign":
                is_section = _SECTION_FOLLOWS.match(token.string, token.end()) is not None
                frame.target, frame.started = self._define(frame, line, is_section), False
            elif kind == "separator" or kind == "blank":
                frame.key += token.group() if frame.key else ""
            elif "\n" in frame.key or "," in frame.key:
                text, lost = frame.key.strip(), line - frame.key.count("\n")
                raise self._error(lost, f"{text!r} has no value; expected key = value, or a section {{ }}")
            else:
                frame.key += token.group()
        elif kind == "separator":
            if frame.started or token.group() == ",":  # a value may begin on the line after its =
                frame.target = None
        elif kind != "blank":
            frame.started = True

    def _open(self, bracket: str, line: int) -> None:
        frame = self.frames[-1]
        if frame.bracket == "[":
            path = f"{frame.path}[{frame.items}]"
            frame.items += 1
        elif frame.target is not None:
            path, frame.started = frame.target, True
        else:  # a section without =, or the braces about a whole file
            path = self._define(frame, line, is_section=True) if frame.key.strip() else frame.path
        self.frames.append(_Frame(bracket, path, line))
        if len(self.frames) > MAX_DEPTH:
            raise self._error(line, f"brackets are nested more than {MAX_DEPTH} deep; close some")

    def _close(self, bracket: str, line: int) -> None:
        frame = self.frames[-1]
        if frame.bracket + bracket not in ("{}", "[]"):
            opened = f"the {frame.bracket} of line {frame.line}" if frame.bracket else "nothing"
            raise self._error(line, f"{bracket} does not match: {opened} is open")
        self.frames.pop()

    def _define(self, frame: _Frame, line: int, is_section: bool) -> str:
        """Record the line of the key that was read, and return its path; only sections may occur several times."""
        line -= frame.key.count("\n")  # its = or { may stand on a later line
        path, parts = frame.path, frame.key.strip().split(".")
        frame.key = ""
        for i, part in enumerate(parts):
            name = part.strip('"')
            path = f"{path}.{name}" if path else name
            section = is_section or i < len(parts) - 1
            if path in self.lines and not (section and path in self.sections):
                first = self.lines[path]
                raise self._error(line, f"{path} is already set on line {first}; keep one of the two")
            self.lines.setdefault(path, line)
            if section:
                self.sections.add(path)
        return path

    def _error(self, line: int, text: str) -> UserError:
        return UserError(f"{self.source}: line {line}: {text}")
