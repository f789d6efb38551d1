"""The losses against NumPy on hand-sized logits and images."""

import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.training import losses
from glcic_tf.training.settings import ADVERSARIAL_FORMS


def images_and_mask():
    rng = np.random.default_rng(0)
    completed, images = rng.random([2, 3, 4, 5, 3], np.float32)
    mask = np.zeros([3, 4, 5, 1], np.float32)
    mask[0, 1:3, 2:4] = 1
    mask[1, 0, 0] = 1
    mask[2] = 1  # all hole
    return completed, images, mask


def value_and_gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return np.asarray(value), np.asarray(tape.gradient(value, x))


def test_completion_loss_by_hand():
    """2 x 2 px, one hole pixel off by 0.5 in red, one known pixel off by 1 in all channels."""
    images = np.zeros([1, 2, 2, 3], np.float32)
    completed, mask = images.copy(), np.zeros([1, 2, 2, 1], np.float32)
    mask[0, 0] = 1  # two pixels
    completed[0, 0, 0, 0] = 0.5
    completed[0, 1, 1] = 1.0
    total, parts = losses.completion_loss(completed, images, mask, known_weight=0.1)
    np.testing.assert_allclose(parts["hole"], [0.25 / 6], rtol=1e-6)
    np.testing.assert_allclose(parts["known"], [3 / 6], rtol=1e-6)
    np.testing.assert_allclose(total, [0.25 / 6 + 0.05], rtol=1e-6)


@pytest.mark.parametrize("known_weight", [0.0, 0.3])
def test_completion_loss_and_its_gradient_equal_numpy(known_weight):
    completed, images, mask = images_and_mask()
    value, gradient = value_and_gradient(lambda x: losses.completion_loss(x, images, mask, known_weight)[0], completed)
    for i in range(3):
        hole, error = mask[i, ..., 0] == 1, (completed[i] - images[i]).astype(np.float64)
        known_mean = np.mean(error[~hole] ** 2) if (~hole).any() else 0.0
        np.testing.assert_allclose(value[i], np.mean(error[hole] ** 2) + known_weight * known_mean, rtol=1e-5)
        weight = np.where(hole, 1 / hole.sum(), known_weight / max((~hole).sum(), 1))[..., None]
        np.testing.assert_allclose(gradient[i], 2 * error * weight / 3, rtol=1e-4, atol=1e-8)


def test_completion_loss_as_a_mean_over_the_image_counts_known_pixels_as_0():
    """The factor between the two means is image / hole: 5.2 for the paper's mean hole of 112 px in 256."""
    completed, images, mask = images_and_mask()
    value, parts = losses.completion_loss(completed, images, mask, known_weight=0.3, mean="image")
    squared = ((completed - images).astype(np.float64) ** 2).mean(-1)
    hole = (squared * mask[..., 0]).mean((1, 2))
    known = (squared * (1 - mask[..., 0])).mean((1, 2))
    np.testing.assert_allclose(parts["hole"], hole, rtol=1e-5)
    np.testing.assert_allclose(value, hole + 0.3 * known, rtol=1e-5)
    over_hole = losses.completion_loss(completed, images, mask)[0]
    np.testing.assert_allclose(over_hole / parts["hole"], [20 / 4, 20 / 1, 1], rtol=1e-5)


def test_feature_matching_loss_equals_numpy():
    rng = np.random.default_rng(2)
    shapes = [(3, 4, 5, 2), (3, 2, 2, 7)]
    real, fake = ([rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(2))
    expected = [np.mean([np.abs(a[i] - b[i]).mean() for a, b in zip(real, fake, strict=True)]) for i in range(3)]
    np.testing.assert_allclose(losses.feature_matching_loss(real, fake), expected, rtol=1e-5)
    half = losses.feature_matching_loss([tf.ones([1, 2, 2, 1], tf.float16)], [tf.zeros([1, 2, 2, 1], tf.float16)])
    assert half.dtype == tf.float32 and half.numpy() == [1.0]


def test_r1_penalty_equals_numpy():
    rng = np.random.default_rng(1)
    image, patch = rng.normal(size=[3, 4, 5, 3]), rng.normal(size=[3, 2, 2, 3]).astype(np.float32)
    expected = [np.sum(image[i] ** 2) + np.sum(patch[i].astype(np.float64) ** 2) for i in range(3)]
    value = losses.r1_penalty([tf.constant(image.astype(np.float32)), tf.constant(patch)])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    half = losses.r1_penalty([tf.constant(200.0, tf.float16, [1, 8, 8, 3])])  # 40,000 each: their sum is no float16
    np.testing.assert_allclose(half, [40_000 * 192])
    assert half.dtype == tf.float32


def test_completion_loss_is_blind_outside_the_hole():
    completed, images, mask = images_and_mask()
    value, gradient = value_and_gradient(lambda x: losses.completion_loss(x, images, mask)[0], completed)
    assert (gradient[np.broadcast_to(mask == 0, gradient.shape)] == 0).all()
    assert (gradient[np.broadcast_to(mask == 1, gradient.shape)] != 0).all()
    elsewhere = np.where(mask == 1, completed, 1 - completed)
    np.testing.assert_array_equal(losses.completion_loss(elsewhere, images, mask)[0], value)


def test_completion_loss_without_hole_or_without_known_pixels_is_finite():
    completed, images, _ = images_and_mask()
    for fill in (0.0, 1.0):
        mask = np.full([3, 4, 5, 1], fill, np.float32)
        total, parts = losses.completion_loss(completed, images, mask, known_weight=1.0)
        mean = np.mean((completed - images) ** 2, axis=(1, 2, 3))
        np.testing.assert_allclose(total, mean, rtol=1e-5)
        np.testing.assert_array_equal(parts["hole" if fill == 0 else "known"], np.zeros(3))


def test_known_weight_may_be_a_tensor():
    """In training the weight is a tensor, as it changes from step to step."""
    completed, images, mask = images_and_mask()
    given = losses.completion_loss(completed, images, mask, tf.constant(0.25))[0]
    np.testing.assert_array_equal(given, losses.completion_loss(completed, images, mask, 0.25)[0])


LOGITS = np.array([[-3.0], [-0.5], [0.0], [2.0]], np.float32)


def probability(logits):
    return 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))


def test_discriminator_loss_equals_the_cross_entropy_of_its_probabilities():
    real, fake = LOGITS, LOGITS[::-1] * 0.7
    total, parts = losses.discriminator_loss(tf.constant(real), tf.constant(fake))
    np.testing.assert_allclose(parts["real"], -np.log(probability(real)), rtol=1e-5)
    np.testing.assert_allclose(parts["fake"], -np.log(1 - probability(fake)), rtol=1e-5)
    np.testing.assert_allclose(total, -np.log(probability(real)) - np.log(1 - probability(fake)), rtol=1e-5)
    assert total.shape == [4]


def test_undecided_discriminator_has_a_loss_of_two_log_two():
    total, _ = losses.discriminator_loss(tf.zeros([1, 1]), tf.zeros([1, 1]))
    np.testing.assert_allclose(total, [2 * 0.6931472], rtol=1e-6)


def test_discriminator_loss_pulls_real_up_and_fake_down():
    zeros = tf.zeros_like(LOGITS)
    _, real_gradient = value_and_gradient(lambda x: losses.discriminator_loss(x, zeros)[0], LOGITS)
    _, fake_gradient = value_and_gradient(lambda x: losses.discriminator_loss(zeros, x)[0], LOGITS)
    np.testing.assert_allclose(real_gradient[:, 0], probability(LOGITS) - 1, rtol=1e-5)
    np.testing.assert_allclose(fake_gradient[:, 0], probability(LOGITS), rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "golden", "golden_gradient"),
    [
        ("minimax", lambda p: np.log(1 - p), lambda p: -p),
        ("non_saturating", lambda p: -np.log(p), lambda p: p - 1),
    ],
)
def test_adversarial_loss_wants_to_look_real(form, golden, golden_gradient):
    value, gradient = value_and_gradient(lambda x: losses.adversarial_loss(x, form), LOGITS)
    assert value.shape == (4,)
    np.testing.assert_allclose(value, golden(probability(LOGITS)), rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 0], golden_gradient(probability(LOGITS)), rtol=1e-5)
    assert (gradient < 0).all()  # descent raises the logit of the fake


@pytest.mark.parametrize("form", ADVERSARIAL_FORMS)
def test_extreme_logits_stay_finite(form):
    logits = np.array([[-1e30], [-1e4], [-200.0], [200.0], [1e4], [1e30]], np.float32)
    for function in (
        lambda x: losses.adversarial_loss(x, form),
        lambda x: losses.discriminator_loss(x, -x)[0],
        lambda x: losses.discriminator_loss(-x, x)[0],
    ):
        value, gradient = value_and_gradient(function, logits)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()
    value, _ = value_and_gradient(lambda x: losses.adversarial_loss(x, form), logits)
    np.testing.assert_allclose(value[4 if form == "minimax" else 1], -1e4 if form == "minimax" else 1e4)


def test_paper_form_is_the_default_and_others_are_refused():
    np.testing.assert_array_equal(losses.adversarial_loss(LOGITS), losses.adversarial_loss(LOGITS, "minimax"))
    with pytest.raises(ValueError, match="'hinge'; known: minimax, non_saturating"):
        losses.adversarial_loss(LOGITS, "hinge")
