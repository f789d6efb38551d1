"""Train the completion network on a folder of photos, in the three phases of the paper.

  train.py --config configs/places2.py --data_dir photos/ --workdir run/
  train.py --config configs/compact.py --config.batch_size=8 --data_dir photos/ --workdir run/ --phase=completion

A run that was stopped goes on when the same command is given again.
"""

import os
import sys
import time

import absl.logging
from absl import flags

try:
    from ml_collections import config_flags

    from glcic_tf.common import cli, config_file
    from glcic_tf.common.errors import UserError
except ImportError as error:  # another Keras backend is asked for, or a package is missing
    sys.exit(f"train.py: {error}")

FLAGS = flags.FLAGS
_PAUSE_SECONDS = 2  # so that a worker whom the others refuse does not ask all the time


def main():
    cli.log_to_stderr()
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow notes every checkpoint's internals there
    if FLAGS.strategy == "multi_worker":  # TensorFlow tells at length of a lost worker, from C++
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.training import cluster, loop

    given = (FLAGS.config, FLAGS.data_dir, FLAGS.workdir, FLAGS.phase, FLAGS.strategy, FLAGS.val_dir, FLAGS.tpu)
    try:
        loop.train(*given)
    except cluster.WorkerLost as error:
        cli.say(f"{error}; starting over from the newest checkpoint, once all workers are there")
        time.sleep(_PAUSE_SECONDS)
        cluster.start_over()


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Config file; --config.batch_size=8 sets one of its fields.")
    flags.DEFINE_string("data_dir", None, "Folder of photos (any depth) or shards, or a URL of one.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; one that holds a run goes on with it.", required=True)
    flags.DEFINE_string("val_dir", None, "Folder of photos to watch training on. By default some are held out.")
    flags.DEFINE_enum(
        "phase", "all", ["completion", "discriminator", "joint", "all"], "Phase to train; all: whatever is left."
    )
    flags.DEFINE_enum(
        "strategy", "auto", ["auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu"], "Devices to train on."
    )
    flags.DEFINE_string("tpu", "", "Name or address of the TPU, with --strategy=tpu.")
    flags.mark_flag_as_required("config")
    try:
        config_file.check(sys.argv)
    except UserError as error:
        sys.exit(f"train.py: {error}")
    cli.run(main)
