"""The exceptions that a user can cause."""

import re


class UserError(Exception):
    """Something outside the code is wrong: a file, a flag, a config, the data.

    The message is one line that names the file or flag, what was found, what was expected and what to do. Commands
    print it without a traceback and exit with code 1.
    """


class UsageError(UserError):
    """The command line is wrong whatever the files hold: an unknown field, flags that exclude each other. Code 2."""


_NODE = re.compile(r"^\s*\{\{function_node .*?\}\} ?")  # where in a graph of TensorFlow's: longer than the reason


def first_line(error):
    """Return what an exception of a library says, cut to one line of at most 200 characters."""
    said = _NODE.sub("", str(error)).strip().splitlines()
    return (said or [type(error).__name__])[0][:200]


_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(\w://[^\s?]*)\?[^\s'\")\]]*")


def without_secrets(text):
    """Return a text, such as a message, with its URLs without users, passwords and queries, which may be signatures."""
    return _QUERY.sub(r"\1", _LOGIN.sub("", str(text)))
