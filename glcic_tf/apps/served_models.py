"""The networks that a page or an API offers, by name; each completes one photo at a time."""

import contextlib
import os
import threading
from pathlib import Path

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError
from glcic_tf.convert import model_names
from glcic_tf.networks import PACKAGE


class Models:
    """Completers by name.

    Args:
        paths: model files (.keras), or names, see `model_names.networks`; all are loaded at once. Without any, the
            package's, and of the others those that are on this machine (`model_names.here`), each loaded at its first
            use.

    Attributes:
        names: of all, in the order given.

    Raises:
        UserError: a model is missing or is none.
    """

    def __init__(self, paths=()):
        self._entries = {}  # name -> [path, Completer or None, lock]
        found = {os.path.realpath(model_names.path_of(model, "--model")): model for model in paths or (PACKAGE,)}
        with cli.quiet_start():  # from here on it takes seconds
            from glcic_tf.completion.completer import Completer

            for path, model in found.items():
                model = model_names.DEFAULT if model == PACKAGE else model
                stem = model if model_names.is_name(model) else Path(path).stem
                name = files.printable(path if stem in self._entries else stem)
                self._entries[name] = [path, Completer.load(path), threading.Lock()]
        for name, path in {} if paths else sorted(model_names.here().items()):
            if os.path.realpath(path) not in found:
                self._entries[name] = [path, None, threading.Lock()]
        self.names = list(self._entries)

    @contextlib.contextmanager
    def using(self, name):
        """Yield the Completer of this name, which nobody else uses meanwhile.

        Raises:
            UserError: there is none, or its file is gone or is no model.
        """
        if name not in self._entries:
            raise UserError(f"model: found {str(name)[:80]!r}; expected one of {', '.join(self.names)}.")
        entry = self._entries[name]
        with entry[2]:
            if entry[1] is None:
                from glcic_tf.completion.completer import Completer

                entry[1] = Completer.load(entry[0])
            yield entry[1]
