"""Which precision a run computes in: what its config says, or with "auto" what the devices are fast in."""

import logging

import tensorflow as tf

from glcic_tf.common import processor
from glcic_tf.training.settings import AUTO_POLICY

_logger = logging.getLogger(__name__)
_AMPERE = (8, 0)  # the first GPUs with bfloat16, by their compute capability


def choose(policy, strategy, cluster):
    """Choose the precision, and say in the log what "auto" has become, or that bfloat16 is slow here.

    Args:
        policy: one of `settings.POLICIES`.
        strategy: tf.distribute.Strategy.
        cluster: its cluster.Cluster, whose workers all call this: they choose the same.

    Returns:
        The policy's name, never "auto".
    """
    if policy not in (AUTO_POLICY, "mixed_bfloat16"):
        return policy
    device, here = _bfloat16(strategy)
    everywhere = bool(cluster.exchange([here]).all())
    if policy == AUTO_POLICY:
        policy = "mixed_bfloat16" if everywhere else "float32"
        whose = f"the {device} gains by bfloat16" if here else f"the {device} does not gain by bfloat16"
        _logger.info(
            "precision: %s (%s)", policy, whose if here == everywhere else "some workers do not gain by bfloat16"
        )
    elif not here:
        _logger.warning(
            "config.precision=mixed_bfloat16: the %s does not gain by bfloat16, which may take several times as "
            "long as float32: set --config.precision=float32, or auto",
            device,
        )
    return policy


def _bfloat16(strategy):
    """What the strategy's devices in this process are, for messages, and whether they gain by bfloat16."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU", True
    if any("GPU" in device.upper() for device in strategy.extended.worker_devices):
        gpus = tf.config.list_physical_devices("GPU")
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
        return "GPU", all(capability is None or capability >= _AMPERE for capability in capabilities)
    return "processor", processor.gains_by_bfloat16()
