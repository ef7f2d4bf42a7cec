"""What the commands do alike: a mistake is said in one line, and the exit status tells the shell how it went."""

import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from phase_recon.utils.errors import UserError
from phase_recon.utils.interrupt import Terminated, terminable


class Parser(argparse.ArgumentParser):
    """A parser of flags whose errors are those of everything else."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ``UserError``."""
        raise UserError(f"{message}; --help lists what there is")


def exit_status(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    command: Callable[[argparse.Namespace], int | None],
    stopped: str,
) -> int:
    """Run a command with the flags that it is given, and return its exit status.

    Args:
        parser: of its flags; ``--debug``, if it has that, leaves every error as it is.
        arguments: the command line; None means that of the process.
        command: what to do; it returns its status, if that is not 0.
        stopped: what is said when Ctrl-C or SIGTERM ends it.

    Returns:
        The command's own; 2 for a mistake that the user can mend; 130 after Ctrl-C and 143 after SIGTERM.
    """
    try:
        options = parser.parse_args(arguments)
    except UserError as error:
        return _said(error)
    if vars(options).get("debug"):
        return command(options) or 0
    with terminable():
        try:
            return command(options) or 0
        except UserError as error:
            return _said(error)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # wherever a name is asked about first
                raise
            return _said(UserError(f"{error.filename}: {error.strerror}; choose a shorter one"))
        except KeyboardInterrupt as stop:
            print(stopped, file=sys.stderr)
            return 143 if isinstance(stop, Terminated) else 130


def _said(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def whole_numbers(flag: str, least: int, text: str) -> list[int]:
    """The numbers that a flag is given, such as those of ``--seeds 0,1,2``.

    Raises:
        UserError: they are none, or one is less than the least.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise UserError(f"{flag} {text!r}: expected whole numbers from {least} on, separated by commas, such as 1,2")
    return numbers
