"""A completion network with random weights, and its completer."""

import keras
import numpy as np
import pytest
import small_networks

from glcic_tf.completion.completer import Completer
from glcic_tf.networks import folding, model_file
from glcic_tf.networks.completion import completion_network


@pytest.fixture(scope="module")
def network():
    """Narrow C with random weights and statistics, strong enough that pixels far away count in the hole."""
    model, rng = completion_network(1 / 16, mean_pixel=(0.4, 0.5, 0.6)), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (np.shape(w) for w in layer.get_weights())
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, gamma),
                    rng.normal(0, 0.2, beta),
                    rng.normal(0, 0.2, mean),
                    np.full(variance, 0.3),
                ]
            )
    return model


@pytest.fixture(scope="module")
def narrow(network):
    return Completer(network)


@pytest.fixture(scope="module")
def folded(network):
    """What the Completer of it computes: batch normalisation is folded, which rounds a little differently."""
    return folding.fold_batch_norm(network)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(small_networks.completion_network(1 / 16), path)
    return path


@pytest.fixture(scope="module")
def loaded(model):
    return Completer.load(model)


@pytest.fixture
def quick_load(model, loaded, monkeypatch):
    """Take the model as loaded already: building the network anew takes a second or two."""
    load = Completer.load

    def quick(path=None, dtype="float32", engine="tensorflow"):
        return loaded if (path, dtype, engine) == (model, "float32", "tensorflow") else load(path, dtype, engine)

    monkeypatch.setattr(Completer, "load", quick)
