"""The model file of a context discriminator: its weights, and in its notes the arguments that it was built with.

Unlike a completion network's file, only this package can load it: the network is built here from the notes, and only
numbers come from the file.
"""

import inspect

from glcic_tf.common.errors import UserError, first_line
from glcic_tf.networks import model_file
from glcic_tf.networks.discriminator import context_discriminator, discriminator_arguments

_ARGUMENTS = "arguments"  # in the notes
_EXPECTED = set(inspect.signature(context_discriminator).parameters) - {"synchronized", "dtype"}
_MAX_SIDE_PX, _MAX_WIDTH = 1024, 2  # limit the memory that a small file can claim


def save(model, path, metadata=None):
    """Write a context discriminator, as `model_file.save` does.

    Raises:
        UserError: the name does not end in `.keras`, or the place cannot be written.
    """
    model_file.save(model, path, {**(metadata or {}), _ARGUMENTS: discriminator_arguments(model)})


def load(path):
    """Load a context discriminator from a file that anybody may have made.

    Returns:
        Model as `discriminator.context_discriminator` builds it, in float32.

    Raises:
        UserError: the file is missing, broken, or holds no discriminator.
    """
    arguments = model_file.read_metadata(path).get(_ARGUMENTS)

    def refuse(reason):
        return UserError(f"{path}: holds no discriminator: {reason}; give a file with one that `glcic convert` wrote.")

    if not isinstance(arguments, dict) or set(arguments) != _EXPECTED:
        raise refuse("its notes do not describe a discriminator")
    try:
        sizes = [value for value in arguments.values() if isinstance(value, int | float)]
        if not all(abs(value) <= _MAX_SIDE_PX for value in sizes) or not 0 < arguments["width"] <= _MAX_WIDTH:
            raise refuse("its notes describe a network that is too large")
        model = context_discriminator(**arguments, dtype="float32")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise refuse(f"its notes do not describe a discriminator ({first_line(error)})") from error
    model_file.read_weights(path, model)
    return model
