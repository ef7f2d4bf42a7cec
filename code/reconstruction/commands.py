"""What the commands do alike: a mistake is said in one line, and the exit status tells the shell how it went."""

import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from utils.errors import UserError
from utils.interrupt import Terminated, terminable


class Parser(argparse.ArgumentParser):
    """A parser of flags whose errors are those of everything else."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ``UserError``."""
        raise UserError(f"{message}; --help lists what there is")


def exit_status(command: Callable[[], int], stopped: str) -> int:
    """Run a command and return its exit status.

    Args:
        command: what to do; it returns its status.
        stopped: what is said when Ctrl-C or SIGTERM ends it.

    Returns:
        The command's own; 2 for a mistake that the user can mend; 130 after Ctrl-C and 143 after SIGTERM.
    """
    with terminable():
        try:
            return command()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # wherever a name is asked about first
                raise
            print(f"error: {UserError(f'{error.filename}: {error.strerror}; choose a shorter one')}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            print(stopped, file=sys.stderr)
            return 143 if isinstance(stop, Terminated) else 130


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
