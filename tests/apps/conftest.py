"""The network that the tests of the page complete with."""

import pytest

from glcic_tf.apps.served_models import Models
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(completion_network(1 / 16), path)
    return path


@pytest.fixture(scope="module")
def models(model):
    return Models([model])


@pytest.fixture(scope="module")
def completer(models):
    with models.using("narrow") as loaded:
        return loaded
