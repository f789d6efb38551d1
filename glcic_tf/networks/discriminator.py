"""The context discriminator D as a Keras functional model; shapes, names and variations as in `completion`."""

import keras
from keras import layers

from glcic_tf.networks.blocks import (
    BATCH_NORM_EPSILON,
    defaults,
    downsample,
    norm_and_relu,
    rescaled,
    scaled,
    variation,
)


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
        x = rescaled(inputs[name], input_scale, input_offset, f"rescaled_{name}")
        for i in range(tower_depth(size) if depth is None else depth):
            filters = scaled(filters_of_layer[min(i, 3)], width)
            x = downsample(x, filters, kernel_size=5, name=f"{name}_conv{i + 1}")
            x = norm_and_relu(x, f"{name}_", i + 1, relu_first, epsilon, synchronized)
        x = layers.Flatten(name=f"{name}_flatten")(x)
        return layers.Dense(1024, activation="relu", name=f"{name}_dense")(x)

    inputs = {}
    with defaults(policy):
        features = []
        if use_global:
            features.append(tower("image", image_size, global_convolutions))
        if use_local:
            features.append(tower("patch", patch_size, local_convolutions))
        x = layers.Concatenate(name="features")(features) if len(features) == 2 else features[0]
    logit = layers.Dense(1, name="logit", dtype=keras.config.floatx())(x)
    return keras.Model(inputs, logit, name="context_discriminator")


def with_features(discriminator):
    """Return the discriminator as a model with two outputs: `logit`, and the `features` of all its convolutions.

    Features are a list of [batch, height, width, channels], after normalisation and ReLU, in the order of the layers.
    """
    last = "bn" if discriminator_arguments(discriminator)["relu_first"] else "relu"
    features = [layer.output for layer in discriminator.layers if f"_{last}" in layer.name]
    return keras.Model(discriminator.input, {"logit": discriminator.output, "features": features})


def discriminator_arguments(model):
    """Return the arguments that `context_discriminator` built a network with: all but replicas and dtype.

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
        **variation(model, f"{tower}_", f"rescaled_{tower}"),
    }
