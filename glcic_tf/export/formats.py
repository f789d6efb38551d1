"""Code that the formats share: optional packages, names of files, and notes about how a file was made."""

import contextlib
import importlib
import json
from pathlib import Path

import keras
import tensorflow as tf

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.networks import folding, model_file

NOTES = "glcic.json"  # the notes' name wherever a format has room for one


def optional_package(name, package, format):
    """Import a module of an optional package.

    Args:
        name: the module's name.
        package: what pip calls it.
        format: what it is needed for, for the message.

    Raises:
        UserError: it is not installed, or does not work.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = "is not installed" if error.name == name.split(".")[0] else f"cannot be imported ({error})"
        raise UserError(
            f"--format={format}: the package {package} {reason}; run: {cli.install_line('export')}"
        ) from error


def check_dtype(dtype, dtypes, format):
    """Raise UserError unless a format can be written in `dtype`, one of the names in `dtypes`."""
    if dtype not in dtypes:
        raise UsageError(f"--dtype={dtype}: --format={format} has {' and '.join(dtypes)}; choose one of them.")


@contextlib.contextmanager
def replacing_file(output, suffix, overwrite):
    """Yield a temporary path beside `output`, and rename it to `output` if all went well; creates the folders above.

    Raises:
        UserError: `output` has another suffix, exists (unless `overwrite`), is a folder, or cannot be written.
    """
    output = Path(output)
    if output.suffix.lower() != suffix:
        found = output.suffix or "no suffix"
        raise UsageError(f"{output}: expected a name that ends in {suffix}, found {found}; rename it.")
    if output.is_dir():
        raise UserError(f"{output}: is a folder; expected the name of a file to write; choose another.")
    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; add --overwrite to replace it, or choose another --output.")
    files.make_folder(output.parent)
    with files.replacing(output) as temporary:
        yield temporary


def for_inference(model, fold):
    """Return a float32 copy of a completion network; `fold`: with batch normalisation folded into convolutions."""
    return folding.fold_batch_norm(model) if fold else model_file.float32_copy(model)


def notes(metadata, dtype, fold, versions=(), **more):
    """Return JSON text: how a file was made, and `metadata` (dict of JSON values) about the model in it.

    Args:
        metadata: as given to `model_file.save`, or None.
        dtype, fold: as given to `export`.
        versions: pairs of a package's name and its version, besides those of Keras and TensorFlow.
        more: further JSON values.
    """
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, **dict(versions)}
    how = {"made_with": versions, "fold_batch_norm": bool(fold), "dtype": dtype, "model": metadata or {}, **more}
    return json.dumps(how, indent=1, sort_keys=True)
