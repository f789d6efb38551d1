"""Shared set-up of the tests: two virtual CPU devices, fixed seeds, quiet logs, nothing of the user's environment."""

import os
import sys
import tempfile

# Before Keras is imported: neither the user's backend nor the user's ~/.keras/keras.json reaches the tests.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="keras-home-")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from glcic_tf.__main__ import main

pytest.register_assert_rewrite("portable_helpers")  # before a test module imports it

# Before the first TensorFlow operation: two replicas to distribute over, on a machine with one CPU device.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """What tests share is made from the same seeds too, whichever of them is the first to ask for it."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _same_start():
    """Seeds (Python, NumPy, TensorFlow), dtypes and determinism are the same for every test, whatever ran before it."""
    keras.utils.set_random_seed(0)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    tf_config.disable_op_determinism()  # a run asks for it, and has no public way to end it
    if "glcic_tf.training.loop" in sys.modules:
        sys.modules["glcic_tf.training.loop"]._deterministic = False


@pytest.fixture
def glcic(monkeypatch, capsys):
    """A function of a command line that does it in this process: (exit code, stdout, stderr).

    To start a process and import TensorFlow there takes longer than most commands do.
    """

    def do(*arguments, name="glcic", command=None):
        monkeypatch.setattr(sys, "argv", [str(name), *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(command)
        return ended.value.code or 0, *capsys.readouterr()

    return do


@pytest.fixture(scope="session")
def small_config():
    """A function of the batch size: configs/tiny.py at 16 px, with 8 px patches and holes of 4-6 px."""
    from glcic_tf.configs import default, tiny

    def make(batch_size):
        config = tiny.get_config()
        config.update(default.size(16))
        config.hole.min_px, config.hole.max_px = 4, 6
        config.batch_size = batch_size
        return config

    return make


@pytest.fixture
def memory():
    """fsspec's file system in memory, behind memory://; empty again afterwards."""
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]
