"""The one exception that means "the user can mend this"; every module may raise it."""


class UserError(Exception):
    """A mistake in what the user gave: a file, a key, a value.

    The text is one line that names the thing, says what was expected and what to do. The command line
    prints it as ``error: <text>`` and exits with status 2; a traceback is shown only under ``--debug``.
    """
