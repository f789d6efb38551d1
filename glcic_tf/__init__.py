"""Globally and Locally Consistent Image Completion (Iizuka et al., SIGGRAPH 2017) in TensorFlow and Keras 3."""

import os

_backend = os.environ.get("KERAS_BACKEND", "tensorflow")
if _backend != "tensorflow":
    raise ImportError(
        f"KERAS_BACKEND is {_backend!r}, but glcic_tf trains with TensorFlow: "
        "unset KERAS_BACKEND or set it to 'tensorflow'."
    )
# The environment wins over the user's ~/.keras/keras.json, which may name another backend.
os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow's start-up notices are not about what the user asked for; its errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def __getattr__(name):
    """Import `Completer` when it is asked for: TensorFlow takes seconds that flags and files can do without."""
    if name == "Completer":
        from glcic_tf.completion.completer import Completer

        return Completer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
