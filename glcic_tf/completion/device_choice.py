"""The flag --device: which processor networks are computed on."""

import re

from absl import flags

from glcic_tf.common import cli
from glcic_tf.common.errors import UsageError, UserError, first_line

_EXPECTED = "expected cpu, gpu, or a GPU by its number, as gpu:1"


def define_flag():
    """Define the flag --device."""
    flags.DEFINE_string("device", None, "Compute on cpu, gpu or gpu:1 (the second); by default the first GPU, or cpu.")
    flags.register_validator("device", lambda name: name is None or _parsed(name) is not None, _EXPECTED)


def choose(name, cluster=None, engine="tensorflow"):
    """Let TensorFlow see one device alone, before anything is computed.

    Args:
        name: "cpu", "gpu", "gpu:1", or None to leave it to TensorFlow.
        cluster: value of --cluster, which says itself where to compute.
        engine: one of `engines.ENGINES`.

    Raises:
        UserError: there is no such device, or something was computed in this process.
    """
    if name is None:
        return
    if cluster:
        raise UsageError(f"--device={name}: with --cluster, --cluster_gpus decides; leave one of them out.")
    if engine != "tensorflow" and name != "cpu":
        raise UsageError(f"--device={name}: --engine={engine} computes on the CPU; choose --engine=tensorflow.")
    if engine == "onnxruntime":
        return
    with cli.quiet_start():  # from here on it takes seconds
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    number = _parsed(name)
    if number >= len(gpus):
        found = f"{len(gpus)} GPU{'s' * (len(gpus) != 1)}" if gpus else "no GPU"
        raise UserError(f"--device={name}: TensorFlow sees {found} on this machine; use another --device.")
    try:
        tf.config.set_visible_devices(gpus[number : number + 1] if number >= 0 else [], "GPU")
    except RuntimeError as error:
        raise UserError(f"--device={name}: comes too late in this process ({first_line(error)}).") from error


def _parsed(name):
    """The GPU's number from 0 on, -1 for the CPU, None for what is not a device."""
    found = re.fullmatch(r"cpu|gpu(?::(\d{1,3}))?", name)
    return None if not found else -1 if name == "cpu" else int(found[1] or 0)
