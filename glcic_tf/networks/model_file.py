"""The small model file for users: one float32 network in a `.keras` zip, with notes about its training in `glcic.json`.

Plain `keras.saving.load_model` reads it too. `load` takes files from anybody: it checks the zip before Keras builds
anything from it, and accepts only the standard layers that completion networks consist of.
"""

import json
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.networks import frames
from glcic_tf.networks.model_config import RefusedModel
from glcic_tf.networks.model_zip import NOTES, check, opened, user_error
from glcic_tf.networks.model_zip import read_metadata as read_metadata  # for those who load a model and want its notes
from glcic_tf.networks.training_layers import as_keras_own

# Fields that Keras 3.14 and 3.15 added to layers and initialisers, with the values that change nothing. Older versions
# refuse to load a file that names these fields.
_NEWER_FIELDS = {"input_axes": None, "output_axes": None, "quantization_config": None}
_NEWER_FIELDS |= {"renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99}


def save(model, path, metadata=None):
    """Write a completion network as a float32 `.keras` file, which appears under its name only when it is complete.

    Args:
        model: functional Keras model, of any dtype policy; optimiser and losses are left out.
        path: file to write, ending in `.keras`, replaced if it is there; its folder must exist.
        metadata: dict of JSON values about the model (hole range in px, image size in px, phase, step ...).

    Raises:
        UserError: the name does not end in `.keras`, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise UserError(f"{path}: expected a name that ends in .keras, found {path.suffix or 'no suffix'}; rename it.")
    with files.replacing(path) as temporary:
        keras.saving.save_model(float32_copy(model), temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["config.json"] = json.dumps(_without_newer_fields(json.loads(members["config.json"])))
        members[NOTES] = json.dumps(metadata or {}, indent=1, sort_keys=True)
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)


def load(path):
    """Load a completion network from a `.keras` file that anybody may have made; no code in it is run.

    Args:
        path: file that `save`, or plain Keras, wrote.

    Returns:
        Model with inputs `image` [batch, height, width, 3] and `mask` [batch, height, width, 1], output
        [batch, height, width, 3]; see `completion.completion_network`, and `frames` for those of one size.

    Raises:
        UserError: the file is missing, not a `.keras` file, too large or broken, or holds a layer that is not on the
            list of standard layers, or another kind of network.
    """
    try:
        check(path)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises nearly any class here
            raise RefusedModel(f"Keras cannot load it ({first_line(error)})") from error
        inputs = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
        outputs = [tuple(tensor.shape) for tensor in model.outputs]
        if not frames.is_known(inputs) or not isinstance(model.input, dict) or outputs != [inputs["image"]]:
            raise RefusedModel(f"its network turns {_spell(inputs)} into {_spell(dict(enumerate(outputs)))}")
        _check_finite(model)
    except RefusedModel as refused:
        raise user_error(path, refused) from refused
    return model


def read_weights(path, model):
    """Load the weights of a `.keras` file into a network that the caller built; only numbers are taken from the file.

    Raises:
        UserError: as for `load`, or the weights do not fit.
    """
    try:
        with opened(path) as archive, tempfile.TemporaryDirectory() as folder:
            try:
                model.load_weights(archive.extract("model.weights.h5", folder))
            except Exception as error:  # Keras raises nearly any class here
                raise RefusedModel(f"its weights do not fit ({first_line(error)})") from error
        _check_finite(model)
    except RefusedModel as refused:
        raise user_error(path, refused) from refused


def float32_copy(model):
    """Return a new model with the same weights that computes in float32, outside of any distribution strategy's scope.

    Args:
        model: functional Keras model, of any dtype policy, with or without synchronized batch normalisation.
    """
    copy = model.__class__.from_config(_as_float32(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def copy_weights(source, target, origin):
    """Copy weights by layer name from a loaded model file into `target`, a network of the same kind.

    Raises:
        UserError: a layer is missing or has other shapes; the message begins with `origin`.
    """
    for layer in target.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        try:
            given = source.get_layer(layer.name).get_weights()
        except ValueError:
            given = []
        if [w.shape for w in given] != [w.shape for w in weights]:
            raise UserError(
                f"{origin}: layer {layer.name} has shapes {[w.shape for w in given]}, "
                f"expected {[w.shape for w in weights]}; is config.width the width of that model?"
            )
        layer.set_weights(given)


def _as_float32(config):
    if isinstance(config, (list, tuple)):
        return type(config)(_as_float32(item) for item in config)
    if not isinstance(config, dict):
        return config
    config = as_keras_own(config)
    if config.get("class_name") == "DTypePolicy":
        return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
    fixed = {"synchronized": False, "dtype": "float32"}
    return {
        key: fixed[key] if key in fixed and not isinstance(value, dict) else _as_float32(value)
        for key, value in config.items()
    }


def _without_newer_fields(config):
    if isinstance(config, list):
        return [_without_newer_fields(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_newer_fields(value)
        for key, value in config.items()
        if key not in _NEWER_FIELDS or value != _NEWER_FIELDS[key]
    }


def _check_finite(model):
    for layer in model.layers:
        if not all(np.isfinite(weights).all() for weights in layer.get_weights()):
            raise RefusedModel(f"its layer {layer.name} holds numbers that are not finite")


def _spell(shapes):
    return ", ".join(f"{name} {['any' if side is None else side for side in shape]}" for name, shape in shapes.items())
