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
    """Completers by name, loaded at once.

    Args:
        paths: model files (.keras), or names, see `model_names.networks`. Without any, the package's.

    Attributes:
        names: of all, in the order given.

    Raises:
        UserError: a model is missing or is none.
    """

    def __init__(self, paths=()):
        self._completers = {}
        found = {os.path.realpath(model_names.path_of(model, "--model")): model for model in paths or (PACKAGE,)}
        with cli.quiet_start():  # from here on it takes seconds
            from glcic_tf.completion.completer import Completer

            for path, model in found.items():
                stem = model if model_names.is_name(model) else Path(path).stem
                name = files.printable(path if stem in self._completers else stem)
                self._completers[name] = Completer.load(path), threading.Lock()
        self.names = list(self._completers)

    @contextlib.contextmanager
    def using(self, name):
        """Yield the Completer of this name, which nobody else uses meanwhile.

        Raises:
            UserError: there is none.
        """
        if name not in self._completers:
            raise UserError(f"model: found {str(name)[:80]!r}; expected one of {', '.join(self.names)}.")
        completer, lock = self._completers[name]
        with lock:
            yield completer
