"""Write a completion network in a format for use elsewhere: a SavedModel, which needs nothing but TensorFlow.

  export.py --output serving/glcic/1
  export.py --model run/joint.keras --format=savedmodel --output serving/glcic/1

How to call what it writes: docs/serving.md.
"""

import sys
from pathlib import Path

import absl.logging
from absl import flags

try:
    from glcic_tf import scripts
    from glcic_tf.errors import UserError
except ImportError as error:  # another Keras backend is asked for, or a package is missing
    sys.exit(f"export.py: {error}")


def savedmodel(model, metadata, output, fold_batch_norm, overwrite):
    """Write a folder that TensorFlow and TensorFlow Serving load, see `glcic_tf.export`."""
    from glcic_tf import export

    export.savedmodel(model, output, fold=fold_batch_norm, overwrite=overwrite, metadata=metadata)


FORMATS = {"savedmodel": savedmodel}


def write(model, output, format="savedmodel", **options):
    """Load a `.keras` model file, by default (None) the one of the package, and write it; raises UserError."""
    if model is not None and not Path(model).exists():
        raise UserError(f"--model={model}: there is no such file; check the name.")
    with scripts.quiet_start():  # from here on it takes seconds
        from glcic_tf import completer, model_file

    path = model or completer.DEFAULT_MODEL
    FORMATS[format](model_file.load(path), model_file.read_metadata(path), output, **options)


def main():
    args = flags.FLAGS
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow notes the internals of what it saves there
    write(args.model, args.output, args.format, fold_batch_norm=args.fold_batch_norm, overwrite=args.overwrite)


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Model file (.keras) that train.py wrote. By default the one of the package.")
    flags.DEFINE_enum("format", "savedmodel", list(FORMATS), "What to write.")
    flags.DEFINE_string("output", None, "Folder to write; those above it are created.", required=True)
    flags.DEFINE_bool("fold_batch_norm", True, "Fold batch normalisation into the convolutions: faster, equal to 1e-4.")
    flags.DEFINE_bool("overwrite", False, "Replace a SavedModel that exists.")
    scripts.run(main)
