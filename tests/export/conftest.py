"""The network that the tests of the runtimes export, and what infer.py makes of photos with it."""

import pytest
from export_helpers import random_network

from glcic_tf.completion.completer import Completer


@pytest.fixture(scope="module")
def narrow():
    return random_network(gain=3.0)


@pytest.fixture(scope="module")
def completer(narrow):
    return Completer(narrow)
