"""The network that the tests of the runtimes export, and what infer.py makes of photos with it."""

import pytest
from export_helpers import random_network
from savedmodel_helpers import signature_of

from glcic_tf.completion.completer import Completer
from glcic_tf.export import savedmodel


@pytest.fixture(scope="module")
def narrow():
    return random_network(gain=3.0)


@pytest.fixture(scope="module")
def completer(narrow):
    return Completer(narrow)


@pytest.fixture(scope="module")
def saved(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "narrow"
    savedmodel.savedmodel(narrow, path, metadata={"phase": "joint"})
    return path


@pytest.fixture(scope="module")
def complete(saved):
    """The signature as clients see it: uint8 arrays in, uint8 array out."""
    return signature_of(saved)
