"""Completion networks as methods of an evaluation: named functions (image, hole) -> completed, as in `baselines`."""

import os
from pathlib import Path

import numpy as np

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.convert import model_names
from glcic_tf.evaluation import baselines

_INPUTS = {"image", "mask"}


def check(folder, output, models, methods):
    """Check the flags that say what to compare on which photos, before anything takes time.

    Args:
        folder, output: --images, --output.
        models, methods: --models, --methods: lists of names.

    Raises:
        UserError: a folder has no name, a method is unknown, or nothing is named at all.
    """
    for flag, value in (("images", folder), ("output", output)):
        if not str(value):
            raise UsageError(f"--{flag}: is empty; expected the name of a folder.")
    unknown = [name for name in methods if name not in baselines.METHODS]
    if unknown:
        raise UsageError(f"--methods={','.join(unknown)}: expected some of {', '.join(baselines.METHODS)}.")
    if not models and not methods:
        raise UsageError("--models, --methods: both are empty; name a model or a method.")


def load(models, postprocess=("none",), scale=1, taken=()):
    """Load models.

    Args:
        models: names and `.keras` files, as `Completer.load` takes them, and SavedModel folders. A model that is named
            twice counts once.
        postprocess: names in postprocesses.POSTPROCESSES; each `.keras` file makes one method with each of them.
        scale: as for `Completer.complete`, for the `.keras` files.
        taken: names that no method may get, besides those of the baselines.

    Returns:
        dict of name -> function. Names are those of the files, or whole paths where such a name is taken, with "+" and
        the post-process if there is one. Functions raise RuntimeError, which names the method, if the network fails.

    Raises:
        UserError: a model is missing or cannot be used.
    """
    models = list({os.path.realpath(model_names.path_of(model, "--models")): model for model in models}.values())
    if not models:
        return {}
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.completion.completer import Completer

    taken, found = {*baselines.METHODS, *taken}, {}
    for path in models:
        name = _name(path, taken)
        taken.add(name)
        if path is not None and not model_names.is_name(path) and Path(path).is_dir():
            found[name] = _method(name, _saved_model(path))
            continue
        completer = Completer.load(path)
        for kind in postprocess:
            full_name = name if kind == "none" else f"{name}+{kind}"
            found[full_name] = _method(full_name, _completion(completer, scale, kind))
    return found


def _name(path, taken):
    if path is None:
        return "glcic"
    if model_names.is_name(path):
        return path
    path = Path(path)
    short = path.name if path.is_dir() else path.stem
    if short.isdecimal():  # a version inside a model's folder, as for TensorFlow Serving
        short = f"{path.absolute().parent.name}/{short}"
    return files.printable(str(path) if short in taken else short)


def _method(name, complete):
    def checked(image, hole):
        try:
            completed = complete(image, hole)
        except Exception as error:  # whatever TensorFlow raises: no memory, an op that this device lacks, ...
            raise RuntimeError(f"{name} failed on {len(image)} x {image.shape[1]} px: {first_line(error)}") from error
        if completed.shape != image.shape or completed.dtype != np.uint8:
            raise RuntimeError(
                f"{name} failed: expected uint8 {list(image.shape)}, it gave {completed.dtype} {list(completed.shape)}"
            )
        return completed

    return checked


def _completion(completer, scale, postprocess):
    return lambda image, hole: completer(image, hole, scale=scale, postprocess=postprocess)


def _saved_model(path):
    import tensorflow as tf

    def refuse(reason, error=None):
        raise UserError(
            f"--models={path}: is not a SavedModel of a completion network ({reason}); `glcic export` makes one."
        ) from error

    try:
        loaded = tf.saved_model.load(path)
        signature = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        refuse(first_line(error), error)
    inputs, outputs = set(signature.structured_input_signature[1]), set(signature.structured_outputs)
    if inputs != _INPUTS or "completed" not in outputs:
        refuse(f"its signature is {sorted(inputs)} -> {sorted(outputs)}, expected ['image', 'mask'] -> ['completed']")

    def complete(image, hole, loaded=loaded):  # keeps `loaded`, without which the signature does not work
        mask = np.where(hole, 255, 0).astype(np.uint8)
        results = signature(image=tf.constant(image[None]), mask=tf.constant(mask[None, ..., None]))
        return results["completed"][0].numpy()

    return complete
