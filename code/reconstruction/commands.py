"""What the commands do alike: flags of the same names, a mistake said in one line, and the exit status."""

import argparse
import difflib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import phase_recon
from phase_recon.utils.environment import PACKAGES, missing_text
from phase_recon.utils.errors import UserError
from phase_recon.utils.interrupt import Terminated, terminable
from phase_recon.utils.overrides import values_of

VERSION = f"phase-recon {phase_recon.__version__}"
EXIT_STATUSES = """exit statuses:
  0    done
  1    of several clouds or runs some failed; the table or the lines say which, and why
  2    a mistake that you can mend, said in one line that begins with "error:"
  130  stopped by Ctrl-C (143: by SIGTERM); the last line says what is saved"""

BEGINS_WITH_A_MINUS = "a value that begins with a minus needs =, as in --sensor=-1,0,2"
OUT_OF_MEMORY = (
    "out of memory ({}): read fewer points (train.voxel), or lower plot.resolution, train.points_batch or "
    "train.pts_in_omega; on a GPU, --gpu cpu may do"
)


class Parser(argparse.ArgumentParser):
    """A parser of flags whose errors are those of everything else.

    A flag may be written with dashes or with underscores, and flags and names of files may stand in any order.

    Args:
        usage: the short form, without the command's name.
        description: what the command does, with examples.
        epilog: what stands at the end of the help.
        script: the file of the command, such as run.py.
        console: its name where it is installed.
        command: the word after it, where one file has several commands.
    """

    def __init__(
        self, usage: str = "", description: str | None = None, epilog: str = EXIT_STATUSES, *,
        script: str = "", console: str = "", command: str = "",
    ) -> None:  # fmt: skip
        name = command_name(script, console)
        if description and script:
            description = re.sub(rf"python code/\w+/{re.escape(script)}", lambda _: name, description)
        super().__init__(
            prog=f"{name} {command}".rstrip(), usage=f"%(prog)s {usage}" if usage else None,
            description=description, epilog=epilog, formatter_class=_Formatter,
        )  # fmt: skip

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The options of a command line, that of the process if none is given."""
        given = sys.argv[1:] if args is None else args
        return self.parse_intermixed_args([_with_dashes(word) for word in given], namespace)

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ``UserError``, in plain words."""
        unknown = re.match(r"unrecognized arguments: (.*)", message)
        flags = [word for word in unknown[1].split() if word.startswith("-")] if unknown else []
        if flags:
            name = flags[0].partition("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            close = difflib.get_close_matches(name, known, n=1)
            message = f"{name}: no such flag" + (f"; did you mean {close[0]}?" if close else "")
        elif unknown:
            message = f"{unknown[1]}: not expected here"
        message = re.sub(r"^argument ", "", message)
        message = re.sub(r"^--(sensor|crop): expected one argument$", rf"\g<0>; {BEGINS_WITH_A_MINUS}", message)
        for kind, expected in (("int", "a whole number"), ("float", "a number")):
            message = re.sub(rf"^(.*): invalid {kind} value: (.*)$", rf"\1: expected {expected}, got \2", message)
        raise UserError(f"{message}; --help lists what there is")

    def add_version_and_debug(self) -> None:
        """--version and --debug."""
        self.add_argument("--version", action="version", version=VERSION, help="print the version")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as a line of the source, with the short usage first."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=110)


def common_flag(group: Any, name: str, **changed: Any) -> None:
    """Add a flag that several commands have, under all of its names, to a parser or to a group of one."""
    names, settings = COMMON[name]
    group.add_argument(*names, **{**settings, **changed})


COMMON: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "minutes": (("--minutes",), {"metavar": "M", "type": float, "help": "time for the whole command"}),
    "steps": (("--steps", "--nepoch"), {"metavar": "N", "type": int, "help": "length of the training"}),
    "seed": (("--seed",), {"metavar": "N", "type": int, "help": "seed of everything random"}),
    "set": (
        ("--set",),
        {"metavar": "KEY=VALUE", "action": "append", "default": [],
         "help": "any key of setup.conf, such as --set train.seed=3; can be repeated"},
    ),
    "gpu": (
        ("--gpu", "--device"),
        {"metavar": "WHICH", "default": "auto",
         "help": "auto (the GPU with most free memory, else the CPU), cpu, a GPU's number, or ignore "
                 "(the first visible GPU, else the CPU)"},
    ),
    "exps-dir": (("--exps-dir",), {"metavar": "FOLDER", "type": Path, "help": "the folder of all results"}),
    "expname": (("--expname",), {"metavar": "NAME", "help": "the folder in it"}),
}  # fmt: skip


def check_length(options: argparse.Namespace) -> None:
    """Refuse a number of steps beside a time, by which they would not count.

    Raises:
        UserError: there are both.
    """
    if options.steps is None:
        return
    time = "--minutes" if options.minutes is not None else ""
    if any(values_of(text).get("train.time_budget") is not None for text in options.set):
        time = "--set train.time_budget"
    if time:
        raise UserError(f"--steps and {time}: one or the other; a run ends by its steps or by the clock")


def command_name(script: str, console: str) -> str:
    """How a command was started, as its user would type it again: ``python code/reconstruction/compare.py``,
    ``phase-recon compare``, or its own name where it is installed.
    """
    started = Path(sys.argv[0])
    if script and started.name == script:
        return f"python {sys.argv[0]}"
    if started.name in ("run.py", "phase-recon") and sys.argv[1:2] == [Path(script).stem]:
        return f"{command_name('run.py', 'phase-recon')} {sys.argv[1]}"
    return console or started.name


def _with_dashes(word: str) -> str:
    """A flag with dashes where it has underscores; anything else as it is."""
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else word


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a letter that it does not know is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser.parse_args(arguments)
    except UserError as error:
        return _said(error)
    with terminable():
        if vars(options).get("debug"):
            return command(options) or 0
        try:
            return command(options) or 0
        except UserError as error:
            return _said(error)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in PACKAGES:
                raise
            return _said(UserError(missing_text(str(error.name))))
        except BrokenPipeError:  # who reads the output has ended, as `head` does
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  for what Python still writes at its end
            return 1
        except (MemoryError, RuntimeError) as error:
            torchs = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)  # GPU, CPU
            if not (isinstance(error, MemoryError) or torchs):
                raise
            return _said(UserError(OUT_OF_MEMORY.format(" ".join(str(error).split())[:120] or "the machine's is full")))
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            remedy = "choose a shorter one" if error.errno == errno.ENAMETOOLONG else "choose another, or mend that"
            return _said(UserError(f"{error.filename}: {error.strerror}; {remedy}"))
        except KeyboardInterrupt as stop:
            print(stopped, file=sys.stderr)
            return 143 if isinstance(stop, Terminated) else 130


def say(line: str) -> None:
    """Print a line beside a progress bar; the first rank speaks for all."""
    from tqdm import tqdm

    from phase_recon.utils.distributed import rank_and_size  # and torch, which the help does not wait for

    if rank_and_size()[0] == 0:
        tqdm.write(line)


def _said(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def chosen(flag: str, text: str, known: list[str]) -> list[str]:
    """The names that a flag is given, separated by commas; all that are known for "".

    Raises:
        UserError: one is unknown.
    """
    names = [name.strip() for name in text.split(",")] if text else known
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{flag} {unknown[0]!r}: expected some of {', '.join(known)}")
    return names


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
