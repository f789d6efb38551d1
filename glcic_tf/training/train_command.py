"""`glcic train`: its flags, the call that they make, and starting over when a worker is lost."""

import os
import time

import absl.logging
from absl import flags

from glcic_tf.common import cli, config_file, ray_cluster
from glcic_tf.common.errors import UsageError
from glcic_tf.training.stages import PHASES

_PAUSE_SECONDS = 2  # so that a worker that the others refuse does not ask them all the time


def define_train_flags():
    """Define the command's flags."""
    config_file.define_flag()
    flags.DEFINE_string("data_dir", None, "Folder of photos (any depth) or shards, or a URL of one.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; a run that is there is resumed.", required=True)
    flags.DEFINE_string("val_dir", None, "Folder of photos to watch training on. By default some are held out.")
    flags.DEFINE_enum("phase", "all", [*PHASES, "all"], "Phase to train; all: whatever is left.")
    flags.DEFINE_enum(
        "strategy", "auto", ["auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu"], "Devices to train on."
    )
    flags.DEFINE_string("tpu", "", "Name or address of the TPU, with --strategy=tpu.")
    ray_cluster.define_flags("worker")
    flags.DEFINE_integer("cluster_workers", 0, "Workers on the cluster; 0: as many as it has room for.", 0)


def run_train():
    """Train the completion network on a folder of photos, in the three phases of the paper.

      glcic train --config places2 --data_dir photos/ --workdir run/
      glcic train --config compact --config.batch_size=8 --data_dir photos/ --workdir run/ --phase=completion
      glcic train --config places2 --data_dir /net/photos/ --workdir /net/run/ --cluster=ray://head:10001

    A run that was stopped goes on when the same command is given again.
    """
    cli.log_to_stderr()
    args = flags.FLAGS
    if args.cluster:
        return _on_cluster(args)
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow logs internals of every checkpoint there
    if args.strategy == "multi_worker":  # TensorFlow logs a lost worker at length, from C++
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.training import cluster, loop

    try:
        loop.train(args.config, args.data_dir, args.workdir, args.phase, args.strategy, args.val_dir, args.tpu)
    except cluster.WorkerLost as error:
        cli.say(f"{error}; starting over from the newest checkpoint, once all workers are there")
        time.sleep(_PAUSE_SECONDS)
        cluster.start_over()


def _on_cluster(args):
    if args.strategy != "auto" or args.tpu:
        raise UsageError("--cluster, --strategy, --tpu: give one of them; a cluster's workers train by multi_worker.")
    from glcic_tf.training import ray_training

    needs = args.cluster, args.cluster_workers, args.cluster_cpus, args.cluster_gpus
    ray_training.train(*needs, args.config, args.data_dir, args.workdir, args.phase, args.val_dir)
