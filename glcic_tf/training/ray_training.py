"""Training by several workers that Ray places: its TensorFlow trainer sets the TF_CONFIG of --strategy=multi_worker."""

import os

from glcic_tf.common import ray_cluster
from glcic_tf.common.errors import UserError, first_line

_RESTARTS = 8  # of all workers, when one is lost; each goes on from the newest checkpoint


def train(address, workers, cpus, gpus, config, data_dir, workdir, phase="all", val_dir=None):
    """Train as `loop.train` does with `multi_worker`, on the nodes of a cluster, which all see the same folders.

    Args:
        address, cpus, gpus: as for `ray_cluster.connected`, for each worker.
        workers: how many; 0: as many as the cluster has room for.
        config, data_dir, workdir, phase, val_dir: as for `loop.train`.

    Raises:
        UserError: as `loop.train` in one of the workers, or the cluster cannot be used.
    """
    with ray_cluster.connected(address, cpus, gpus, show_output=True) as cluster:
        from ray import train
        from ray.train.tensorflow import TensorflowTrainer

        resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
        given = {"config": config, "data_dir": data_dir, "workdir": workdir, "phase": phase, "val_dir": val_dir}
        trainer = TensorflowTrainer(
            _work,
            train_loop_config=given,
            scaling_config=train.ScalingConfig(
                num_workers=workers or cluster.slots(), use_gpu=gpus > 0, resources_per_worker=resources
            ),
            run_config=train.RunConfig(
                name="ray",
                storage_path=os.path.abspath(workdir),
                failure_config=train.FailureConfig(max_failures=_RESTARTS),
            ),
        )
        try:
            trainer.fit()
        except train.TrainingFailedError as error:
            raise _user_error(error) from error


def _work(given):
    from glcic_tf.common import cli
    from glcic_tf.training import loop

    cli.log_to_stderr()
    loop.train(strategy="multi_worker", **given)


def _user_error(error):
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__
    return UserError(f"--cluster: training failed ({first_line(error)}).")
