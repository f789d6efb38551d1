"""Globally and Locally Consistent Image Completion (Iizuka et al., SIGGRAPH 2017) in TensorFlow and Keras 3."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers do not see what __getattr__ imports
    from glcic_tf.completion.completer import Completer as Completer

__version__ = "0.1.0"

# Read by Keras when it is imported. The environment wins over ~/.keras/keras.json, which may name another backend.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# TensorFlow's start-up notices are not about what the user asked for; its errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def check_backend():
    """Raise ImportError if Keras is to run on something else than TensorFlow."""
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        raise ImportError(
            f"KERAS_BACKEND is {backend!r}, but glcic_tf trains with TensorFlow: "
            "unset KERAS_BACKEND or set it to 'tensorflow'."
        )


def __getattr__(name):
    """Import `Completer` when it is asked for: TensorFlow takes seconds that flags and files can do without."""
    if name == "Completer":
        check_backend()
        from glcic_tf.completion.completer import Completer

        return Completer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
