"""Training is tested on networks of a few layers; what the layers of the real ones do is for tests/networks."""

import cv2
import numpy as np
import pytest
import small_networks

from glcic_tf.networks import completion


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "completion_network", small_networks.completion_network)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(20):
        small = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(small, (72, 48), interpolation=cv2.INTER_CUBIC))
    return folder
