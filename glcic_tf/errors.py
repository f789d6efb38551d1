"""The one exception that a user can cause."""


class UserError(Exception):
    """Something outside the code is wrong: a file, a flag, a config, the data.

    The message is one line that names the file or flag, what was found, what was expected and what to do. Scripts
    print it without a traceback and exit with a non-zero code.
    """
