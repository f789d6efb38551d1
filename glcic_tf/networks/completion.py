"""The paper's networks as Keras functional models: completion network C and context discriminator D.

Shapes are written [batch, height, width, channels]. Layer names are stable, since weights are addressed by them.

Padding is Torch's, as in the authors' release: symmetric zeros. Keras' `same` is identical for stride 1 (dilated too)
and for the 4 x 4 deconvolution, but pads the other side for stride 2, so those layers pad explicitly.

Published weights were trained with small variations of the networks. Both builders know them as arguments, with the
authors' form as the default, and `completion_arguments` and `discriminator_arguments` read them off a network.
"""

import contextlib

import keras
import numpy as np
from keras import layers

from glcic_tf.networks.batch_norm import SyncBatchNormalization

BATCH_NORM_EPSILON = 1e-5  # Torch's; Keras' own default is 1e-3
BATCH_NORM_MOMENTUM = 0.9  # Torch's 0.1; with Keras' 0.99 evaluation mode is useless for thousands of steps
STRIDE = 4  # height and width that C takes are multiples of this
# A crop whose margin around the hole is at least this wide (and a multiple of STRIDE) gives the hole the same values
# as the whole image: half of C's spatial support, aligned.
MARGIN_PX = 156


def _scaled(filters, width):
    return max(1, round(filters * width))


def _norm_and_relu(x, prefix, index, relu_first, epsilon, synchronized):
    """Batch normalisation and ReLU behind a convolution, in this order or the other."""
    kind = SyncBatchNormalization if synchronized else layers.BatchNormalization
    norm = kind(momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, synchronized=synchronized, name=f"{prefix}bn{index}")
    relu = layers.Activation("relu", name=f"{prefix}relu{index}")
    return norm(relu(x)) if relu_first else relu(norm(x))


def _rescaled(image, scale, offset, name):
    """What the first layers see of an image in [0, 1]; no layer where that is the image itself."""
    offset = np.broadcast_to(offset, 3).tolist()
    if scale == 1 and not any(offset):
        return image
    return layers.Rescaling(scale, offset=offset, name=name)(image)


def _downsample(x, filters, kernel_size, name):
    """Halve the size by a convolution with Torch's symmetric padding: [.., H, W, ..] -> [.., H / 2, W / 2, filters]."""
    x = layers.ZeroPadding2D(kernel_size // 2, name=f"pad_{name}")(x)
    return layers.Conv2D(filters, kernel_size, strides=2, padding="valid", name=name)(x)


def completion_network(
    width=1.0,
    mean_pixel=(0.5, 0.5, 0.5),
    synchronized=False,
    dtype=None,
    relu_first=False,
    epsilon=BATCH_NORM_EPSILON,
    input_scale=1.0,
    input_offset=(0.0, 0.0, 0.0),
    output="sigmoid",
):
    """Build the completion network C (paper, section 3.2, table 1).

    Args:
        width: factor on the number of channels of every layer but the last; 1.0 is the paper's network, with
            6,072,131 trainable parameters.
        mean_pixel: RGB that the hole is filled with at the input, behind `input_scale` and `input_offset`: the mean of
            the training photos, in [0, 1]. It is a weight of the layer `mean_pixel`, so it travels inside the model
            file.
        synchronized: for training: statistics of a batch over all replicas, and faster on one, see `batch_norm`.
        dtype: Keras dtype policy of the hidden layers, the global policy if None. Input and output are float32 always.
        relu_first: ReLU comes before batch normalisation, as in GLCIC-PyTorch.
        epsilon: of batch normalisation.
        input_scale, input_offset: known pixels are multiplied by the one and moved by the other, RGB, first: the
            authors' release subtracts the mean and fills with 0, MMagic works on [-1, 1].
        output: "sigmoid", or "clip" to [0, 1].

    Returns:
        Model with inputs `image` [batch, height, width, 3] float32 RGB in [0, 1] (what stands in the hole is ignored)
        and `mask` [batch, height, width, 1] float32 (1 = hole), and output [batch, height, width, 3] float32 in [0, 1].
        Height and width are any multiples of 4. Only the values inside the hole are meant to be used.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    full = keras.config.floatx()  # input, mean and output are float32 under every policy

    with _defaults(full):
        image = keras.Input((None, None, 3), name="image", dtype=full)
        mask = keras.Input((None, None, 1), name="mask", dtype=full)
        known = layers.Rescaling(-1.0, offset=1.0, name="known")(mask)
        seen = _rescaled(image, input_scale, input_offset, "rescaled_image")
        known_pixels = layers.Multiply(name="known_pixels")([seen, known])
        mean = layers.Conv2D(3, 1, use_bias=False, trainable=False, name="mean_pixel")
        filled = layers.Add(name="filled")([known_pixels, mean(mask)])
        x = layers.Concatenate(name="masked_input")([filled, mask])

    with _defaults(policy):

        def conv(x, index, filters, kernel_size=3, strides=1, dilation_rate=1):
            filters, name = _scaled(filters, width), f"conv{index}"
            if strides == 2:
                x = _downsample(x, filters, kernel_size, name)
            else:
                x = layers.Conv2D(filters, kernel_size, padding="same", dilation_rate=dilation_rate, name=name)(x)
            return _norm_and_relu(x, "", index, relu_first, epsilon, synchronized)

        def deconv(x, index, filters):
            name = f"deconv{index}"
            x = layers.Conv2DTranspose(_scaled(filters, width), 4, strides=2, padding="same", name=name)(x)
            return _norm_and_relu(x, "", index, relu_first, epsilon, synchronized)

        x = conv(x, 1, 64, kernel_size=5)
        x = conv(x, 2, 128, strides=2)
        x = conv(x, 3, 128)
        x = conv(x, 4, 256, strides=2)
        x = conv(x, 5, 256)
        x = conv(x, 6, 256)
        x = conv(x, 7, 256, dilation_rate=2)
        x = conv(x, 8, 256, dilation_rate=4)
        x = conv(x, 9, 256, dilation_rate=8)
        x = conv(x, 10, 256, dilation_rate=16)
        x = conv(x, 11, 256)
        x = conv(x, 12, 256)
        x = deconv(x, 13, 128)
        x = conv(x, 14, 128)
        x = deconv(x, 15, 64)
        x = conv(x, 16, 32)
    with _defaults(full):
        x = layers.Conv2D(3, 3, padding="same", name="conv17")(x)
        if output == "clip":
            completed = layers.ReLU(max_value=1.0, name="completed")(x)
        else:
            completed = layers.Activation(output, name="completed")(x)

    model = keras.Model({"image": image, "mask": mask}, completed, name="completion_network")
    mean.set_weights([np.reshape(np.asarray(mean_pixel, np.float32), (1, 1, 1, 3))])
    return model


def completion_arguments(model):
    """Read off a completion network what `completion_network` was called with: all but mean, replicas and dtype.

    Args:
        model: Keras model with the layer names of `completion_network`.

    Returns:
        dict of JSON values: `width`, `relu_first`, `epsilon`, `input_scale`, `input_offset` and `output`.

    Raises:
        ValueError: a layer is missing or of another kind.
    """
    completed = model.get_layer("completed")
    return {
        "width": model.get_layer("conv4").filters / 256,
        **_variation(model, "", "rescaled_image"),
        "output": "clip" if isinstance(completed, layers.ReLU) else completed.activation.__name__,
    }


def _variation(model, prefix, rescaling):
    norm, relu = model.get_layer(f"{prefix}bn1"), model.get_layer(f"{prefix}relu1")
    names = [layer.name for layer in model.layers]
    rescaled = model.get_layer(rescaling) if rescaling in names else None
    return {
        "relu_first": norm.input is relu.output,
        "epsilon": float(norm.epsilon),
        "input_scale": float(rescaled.scale) if rescaled else 1.0,
        "input_offset": [float(x) for x in np.broadcast_to(rescaled.offset, 3)] if rescaled else [0.0, 0.0, 0.0],
    }


def tower_depth(size_px):
    """Count the stride-2 convolutions that bring `size_px` down to 4-7 px: 256 -> 6, 128 and 160 -> 5 (tables 2, 3)."""
    depth = 0
    while size_px > 7:
        size_px, depth = -(-size_px // 2), depth + 1
    return depth


def context_discriminator(
    image_size=256,
    patch_size=128,
    width=1.0,
    use_global=True,
    use_local=True,
    global_convolutions=None,
    local_convolutions=None,
    synchronized=False,
    dtype=None,
    relu_first=False,
    epsilon=BATCH_NORM_EPSILON,
    input_scale=1.0,
    input_offset=(0.0, 0.0, 0.0),
):
    """Build the context discriminator D (paper, section 3.3, tables 2 and 3).

    Args:
        image_size, patch_size: side of the whole image and of the local patch, px.
        width: factor on the number of channels of the convolutions; the fully connected layers stay as they are.
        use_global, use_local: leave out one of the two towers (the paper's ablation).
        global_convolutions, local_convolutions: depth of the towers; by default `tower_depth` of their input.
        synchronized, dtype, relu_first, epsilon, input_scale, input_offset: as in `completion_network`.

    Returns:
        Model with inputs `image` [batch, image_size, image_size, 3] and `patch` [batch, patch_size, patch_size, 3],
        float32 RGB in [0, 1] (only those whose tower is there), and output [batch, 1] float32: the logit of the
        probability that the image is real.

    Raises:
        ValueError: both towers are left out.
    """
    if not (use_global or use_local):
        raise ValueError("A context discriminator needs its global tower, its local tower, or both.")
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    filters_of_layer = [64, 128, 256, 512]  # and 512 from there on

    def tower(name, size, depth):
        inputs[name] = keras.Input((size, size, 3), name=name, dtype=keras.config.floatx())
        x = _rescaled(inputs[name], input_scale, input_offset, f"rescaled_{name}")
        for i in range(tower_depth(size) if depth is None else depth):
            filters = _scaled(filters_of_layer[min(i, 3)], width)
            x = _downsample(x, filters, kernel_size=5, name=f"{name}_conv{i + 1}")
            x = _norm_and_relu(x, f"{name}_", i + 1, relu_first, epsilon, synchronized)
        x = layers.Flatten(name=f"{name}_flatten")(x)
        return layers.Dense(1024, activation="relu", name=f"{name}_dense")(x)

    inputs = {}
    with _defaults(policy):
        features = []
        if use_global:
            features.append(tower("image", image_size, global_convolutions))
        if use_local:
            features.append(tower("patch", patch_size, local_convolutions))
        x = layers.Concatenate(name="features")(features) if len(features) == 2 else features[0]
    logit = layers.Dense(1, name="logit", dtype=keras.config.floatx())(x)
    return keras.Model(inputs, logit, name="context_discriminator")


def with_features(discriminator):
    """Return the discriminator as a model with two outputs: `logit`, and `features`, those of all its convolutions.

    Features are a list of [batch, height, width, channels], behind normalisation and ReLU, in the order of the layers.
    """
    last = "bn" if discriminator_arguments(discriminator)["relu_first"] else "relu"
    features = [layer.output for layer in discriminator.layers if f"_{last}" in layer.name]
    return keras.Model(discriminator.input, {"logit": discriminator.output, "features": features})


def discriminator_arguments(model):
    """Read off a context discriminator what `context_discriminator` was called with: all but replicas and dtype.

    Args:
        model: Keras model with the layer names of `context_discriminator`.

    Returns:
        dict of JSON values.

    Raises:
        ValueError: a layer is missing or of another kind.
    """
    sizes = {tensor.name: tensor.shape[1] for tensor in model.inputs}
    names = [layer.name for layer in model.layers]
    depths = {tower: sum(name.startswith(f"{tower}_conv") for name in names) for tower in ("image", "patch")}
    tower = "image" if "image" in sizes else "patch"
    return {
        "image_size": sizes.get("image"),
        "patch_size": sizes.get("patch"),
        "width": model.get_layer(f"{tower}_conv1").filters / 64,
        "use_global": "image" in sizes,
        "use_local": "patch" in sizes,
        "global_convolutions": depths["image"],
        "local_convolutions": depths["patch"],
        **_variation(model, f"{tower}_", f"rescaled_{tower}"),
    }


@contextlib.contextmanager
def _defaults(policy):
    """Give layers a dtype policy, so that the tables need not repeat it, and keep the user's keras.json out of them."""
    previous = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous[0])
        keras.config.set_image_data_format(previous[1])
