"""What users are told: the exception for mistakes that they can correct, which every module may raise; and words."""

from collections.abc import Iterable

LONGEST_LINE = 2000  # characters: a longer line of an error is cut


class UserError(Exception):
    """A mistake in something that the user gave: a file, a key, a value.

    The text is one line that names it, what was expected, and what to do. The command line prints it as
    ``error: <text>`` and exits with status 2; it shows a traceback only under ``--debug``.

    Contents of files and names in the text cannot break the line or control the terminal: characters that do not print
    are escaped, and long lines are cut.

    Args:
        text: the line.
        details: more lines, printed indented below it, where several things are wrong at once.
    """

    def __init__(self, text: str, *details: str) -> None:
        super().__init__("\n  ".join(_printable(line) for line in (text, *details)))


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 point``, ``2 points``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def raise_problems(problems: Iterable[str]) -> None:
    """Raise a ValueError with a line for each problem, if there are any: of a class that a configuration builds."""
    if text := "\n".join(problems):
        raise ValueError(text)


def _printable(line: str) -> str:
    """The line, cut to LONGEST_LINE, with characters that do not print escaped."""
    line = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
