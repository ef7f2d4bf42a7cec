"""The one exception that means "the user can mend this"; every module may raise it."""


class UserError(Exception):
    """A mistake in what the user gave: a file, a key, a value.

    The text is one line that names the thing, says what was expected and what to do. The command line
    prints it as ``error: <text>`` and exits with status 2; a traceback is shown only under ``--debug``.

    What a file or a name brings into the text cannot break the line or steer a terminal: characters that do
    not print are escaped, and what is too long for a reader is cut.

    Args:
        text: the line.
        details: more lines, shown indented below it, where several things are wrong at once.
    """

    def __init__(self, text: str, *details: str) -> None:
        super().__init__("\n  ".join(_printable(line) for line in (text, *details)))


LONGEST = 2000  # characters of a line


def _printable(line: str) -> str:
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
