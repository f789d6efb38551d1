"""Networks, photos and a comparison for the tests of the runtimes."""

import keras
import numpy as np
import skimage
from keras import layers

from glcic_tf.networks.completion import completion_network

SIZES = [(256, 256), (257, 255), (600, 400)]


def random_network(seed=0, gain=1.0, **arguments):
    """Narrow C with random weights and statistics; the larger the gain, the more it amplifies small differences."""
    keras.utils.set_random_seed(seed)
    model, rng = completion_network(1 / 16, (0.4, 0.5, 0.6), **arguments), np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = np.shape(layer.gamma)
            gamma, (beta, mean) = rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.2, (2, *shape))
            layer.set_weights([gamma, beta, mean, np.full(shape, 1 / gain)])
    return model


def other_network():
    """A network with what others' files may have: ReLU before normalisation, ELU, a clip, odd kernels, a branch."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    image, mask = keras.Input((None, None, 3), name="image"), keras.Input((None, None, 1), name="mask")
    x = layers.Rescaling([2.0, 1.5, 1.0], offset=[-1.0, -0.5, 0.0], name="range")(image)
    x = layers.Concatenate(name="completed")([x, mask])  # a name that the export uses itself
    x = layers.Conv2D(8, (5, 3), padding="same", activation="relu", name="conv1")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Conv2D(8, 4, strides=2, padding="same", activation="elu", use_bias=False, name="conv2")(x)
    x = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")(x)
    x = layers.Conv2D(12, 2, strides=2, groups=2, padding="valid", name="conv3")(x)
    x = layers.ReLU(negative_slope=0.1, name="leaky")(x)
    shared = layers.Conv2D(12, 3, dilation_rate=(2, 3), padding="same", name="shared")
    x = layers.Add(name="sum")([x, layers.Activation("tanh", name="tanh")(shared(x)), shared(shared(x))])
    x = layers.Conv2DTranspose(8, 5, strides=2, padding="same", name="deconv1")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="bn2")(x)
    x = layers.ReLU(max_value=3.0, name="capped")(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, padding="valid", activation="sigmoid", name="deconv2")(x)
    x = layers.Multiply(name="product")([x, layers.ReLU(max_value=1.0, name="clip")(image)])
    model = keras.Model({"image": image, "mask": mask}, x)
    for name in ("bn1", "bn2"):
        layer = model.get_layer(name)
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def photo_and_mask(batch, height, width):
    """A photo [batch, height, width, 3] and a mask [batch, height, width, 1] with holes inside and at the border."""
    image = np.pad(skimage.data.coffee(), ((0, 300), (0, 200), (0, 0)), mode="reflect")
    image = np.stack([image[i : i + height, i : i + width] for i in range(batch)])
    mask = np.zeros((batch, height, width, 1), np.uint8)
    mask[0, height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = 255
    mask[-1, -(height // 20 + 1) :, -(width // 9 + 1) :] = 128
    mask[0, 0, 0] = 127  # known
    return image, mask


def assert_like_completer(result, completer, image, mask, levels=1):
    """Assert that known pixels are bit-equal, and those of the hole infer.py --scale=1's, up to so many grey levels."""
    assert result.shape == image.shape and result.dtype == np.uint8
    hole = mask[..., 0] >= 128
    np.testing.assert_array_equal(result[~hole], image[~hole])
    for ours, pixels, own_hole in zip(result, image, hole, strict=True):
        expected = completer(pixels, own_hole, scale=1, postprocess="none")
        assert np.abs(ours.astype(int) - expected)[own_hole].max(initial=0) <= levels
