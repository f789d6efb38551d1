"""From the name of a strategy to a tf.distribute strategy."""

import tensorflow as tf

from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.training import cluster

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu")


def make_strategy(name="auto", tpu=""):
    """Make the strategy that training runs under.

    Args:
        name: `cpu` and `gpu`: one device; `mirrored`: every GPU, or every logical CPU where there is no GPU;
            `multi_worker`: the devices of all workers that TF_CONFIG lists, of which this process is one: its GPUs if
            it has any, else its CPU; `tpu`: the TPU named by `tpu`; `auto`: all GPUs if there are any, else the CPU.
        tpu: the TPU's name or address; empty: the one that the environment names; `local` on a TPU VM. Photos are read
            by this process, so a TPU behind another worker is fed over the network.

    Raises:
        UserError: there is no such device.
        cluster.WorkerLost: with `multi_worker`, as `cluster.multi_worker_strategy` raises it.
    """
    # These two come first: asking for GPUs starts the runtime, and workers and a TPU have to be connected before that.
    if name == "multi_worker":
        return cluster.multi_worker_strategy()
    if name == "tpu":
        try:
            return tf.distribute.TPUStrategy(tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu))
        except (ValueError, OSError, RuntimeError, ImportError, tf.errors.OpError) as error:
            raise UserError(
                f"--strategy=tpu: no TPU could be reached ({first_line(error)}); name one with --tpu."
            ) from error
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "gpu" if gpus else "cpu"
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "gpu":
        if not gpus:
            raise UserError("--strategy=gpu: TensorFlow sees no GPU on this machine; use --strategy=cpu or auto.")
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    if name == "mirrored":
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy(
            [device.name for device in devices],
            # NCCL, the default, is for GPUs only.
            cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice(),
        )
    raise UsageError(f"--strategy={name}: expected one of {', '.join(STRATEGIES)}.")
