"""Training is tested on networks of a few layers; what the layers of the real ones do is for tests/networks."""

import pytest
import small_networks

from glcic_tf.networks import completion


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "completion_network", small_networks.completion_network)
        yield
