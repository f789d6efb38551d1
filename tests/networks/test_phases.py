"""Equal phases of deconvolutions: the nearest such kernel, and what a fresh network makes of an image of one colour."""

import numpy as np
import pytest
import tensorflow.experimental.numpy as tnp

from glcic_tf.networks import MARGIN_PX, initial_weights, phases
from glcic_tf.networks.completion import completion_network


def phase_sums(kernel):
    """[4, channels, channels]: a 4 x 4 deconvolution of stride 2 meets each output pixel with every second tap."""
    return np.stack([kernel[row::2, column::2].sum((0, 1)) for row in (0, 1) for column in (0, 1)])


def test_it_is_the_nearest_kernel_whose_four_phases_have_equal_sums():
    """Against the projection onto the null space of the three differences, from linear algebra."""
    kernel = np.random.default_rng(0).normal(size=(4, 4, 3, 5))
    constraints = np.zeros([3, 4, 4])
    for row, (y, x) in zip(constraints, [(0, 1), (1, 0), (1, 1)], strict=True):
        row[0::2, 0::2], row[y::2, x::2] = 1, -1
    constraints = constraints.reshape(3, 16)
    flat = kernel.reshape(16, -1)
    expected = (flat - np.linalg.pinv(constraints) @ (constraints @ flat)).reshape(kernel.shape)
    found = phases.equal_phases(kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(phase_sums(found), np.broadcast_to(kernel.sum((0, 1)) / 4, (4, 3, 5)), atol=1e-13)
    np.testing.assert_allclose(phases.equal_phases(found), found, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_are_projected_as_arrays_are(dtype):
    kernel = np.random.default_rng(1).normal(size=(4, 4, 2, 3)).astype(dtype)
    found = phases.equal_phases(tnp.asarray(kernel), tnp).numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(found, phases.equal_phases(kernel.astype(np.float64)), atol=1e-6)


def fresh_network(draw):
    network = completion_network(1 / 16, (0.3, 0.5, 0.7))
    for variable in network.variables:
        if variable.path != "mean_pixel/kernel":
            variable.assign(draw(variable.path, tuple(variable.shape), 5))
    return network


def glorot(path, shape, seed):
    """The same, without the projection."""
    return initial_weights.draw(path.replace("deconv", "plain"), shape, seed)


@pytest.mark.parametrize(("draw", "flat"), [(initial_weights.draw, True), (glorot, False)])
def test_a_fresh_network_draws_no_pattern_on_an_image_of_one_colour(draw, flat):
    """Further from the border and from the hole's rim than C sees, every pixel of the hole has the same value."""
    height, width, side, margin = 676, 664, 344, MARGIN_PX
    image, mask = np.full((1, height, width, 3), 0.6, np.float32), np.zeros((1, height, width, 1), np.float32)
    top, left = (height - side) // 2, (width - side) // 2
    mask[:, top : top + side, left : left + side] = 1
    completed = fresh_network(draw)({"image": image, "mask": mask}, training=False).numpy()
    inside = completed[0, top + margin : top + side - margin, left + margin : left + side - margin]
    assert inside.shape == (32, 32, 3)
    spread = np.ptp(inside, axis=(0, 1)).max()
    assert spread < 1e-5 if flat else spread > 1e-3
