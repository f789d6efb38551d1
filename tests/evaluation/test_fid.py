"""fid: distances against closed forms, statistics against NumPy, features through Keras's own InceptionV3."""

import keras
import numpy as np
import pytest
from PIL import Image
from skimage.filters import gaussian

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import fid


def covariance(size, seed, rank=None):
    factor = np.random.default_rng(seed).normal(size=(size, rank or size))
    return factor @ factor.T


@pytest.fixture(scope="module")
def network():
    return fid.load_network(weights=None)


def test_one_dimension():
    """(m - n)^2 + (s - t)^2 for standard deviations s and t."""
    found = fid.frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.5]), np.array([[0.25]]))
    assert found == pytest.approx(2.5**2 + (2 - 0.5) ** 2)


def test_covariances_that_commute():
    """Diagonal in one basis: the sum of the distances along its axes."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    a, b = np.array([1, 4, 9, 0.25, 0, 2]), np.array([4, 1, 9, 1, 3, 0])
    mean_a, mean_b = np.zeros(6), np.arange(6.0)
    found = fid.frechet_distance(mean_a, (basis * a) @ basis.T, mean_b, (basis * b) @ basis.T)
    assert found == pytest.approx(55 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2))


def test_two_by_two_without_a_common_basis():
    """For 2 x 2, tr (A B)^(1/2) is the root of tr(A B) + 2 (det A B)^(1/2)."""
    a, b = np.array([[2.0, 1.2], [1.2, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    found = fid.frechet_distance(np.zeros(2), a, np.zeros(2), b)
    assert found == pytest.approx(np.trace(a) + np.trace(b) - 2 * cross)


def test_equals_the_general_matrix_root():
    from scipy.linalg import sqrtm

    a, b = covariance(20, 1), covariance(20, 2)
    mean = np.random.default_rng(3).normal(size=20)
    expected = mean @ mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert fid.frechet_distance(mean, a, np.zeros(20), b) == pytest.approx(expected, rel=1e-8)


def test_singular_covariances_of_few_images():
    """Of two sets of rank 3 in 40 dimensions: |A|_* of the product of their factors."""
    a, b = (np.random.default_rng(seed).normal(size=(40, 3)) for seed in (4, 5))
    cross = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    found = fid.frechet_distance(np.zeros(40), a @ a.T, np.zeros(40), b @ b.T)
    assert found == pytest.approx(np.trace(a @ a.T) + np.trace(b @ b.T) - 2 * cross, abs=1e-9)
    assert 0 <= fid.frechet_distance(np.ones(40), a @ a.T, np.ones(40), a @ a.T) < 1e-9


def test_equal_images_have_no_covariance():
    """All features the same in one set, or in both: what is left is the other's variance and the means' distance."""
    nothing, b = np.zeros((5, 5)), covariance(5, 8)
    assert fid.frechet_distance(np.ones(5), nothing, np.zeros(5), b) == pytest.approx(5 + np.trace(b))
    assert fid.frechet_distance(np.ones(5), b, np.zeros(5), nothing) == pytest.approx(5 + np.trace(b))
    assert fid.frechet_distance(np.ones(5), nothing, np.zeros(5), nothing) == 5


def test_distance_is_symmetric():
    a, b, mean = covariance(15, 6), covariance(15, 7, rank=4), np.ones(15)
    there, back = fid.frechet_distance(mean, a, -mean, b), fid.frechet_distance(-mean, b, mean, a)
    assert there == pytest.approx(back, rel=1e-6)


def test_statistics_in_parts_equal_those_of_all():
    rows = np.random.default_rng(8).normal(1e4, 1, (50, 7))  # a large mean: sums of squares would lose digits
    statistics = fid.Statistics(7)
    for part in (rows[:1], rows[1:20], rows[20:20], rows[20:]):
        statistics.add(part)
    assert statistics.n == 50
    np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance(), np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-12)
    assert fid.distance(statistics, statistics) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(count):
    statistics = fid.Statistics(3)
    statistics.add(np.ones((count, 3)))
    with pytest.raises(UserError, match=f"--fid: needs at least 2 images, found {count}"):
        fid.distance(statistics, statistics)


def test_features_are_those_of_inception(network, monkeypatch):
    images = np.random.default_rng(9).integers(0, 256, (3, fid.INPUT_PX, fid.INPUT_PX, 3), np.uint8)
    monkeypatch.setattr(fid, "BATCH", 2)
    found = fid.features(images, network)
    assert (found.shape, found.dtype) == ((3, fid.FEATURES), np.float32)
    expected = network(images / np.float32(127.5) - 1, training=False)  # of this size nothing is resized
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert np.ptp(found, axis=0).max() > 0  # images differ


@pytest.mark.parametrize(("height", "width"), [(64, 64), (700, 500), (256, 331)])
def test_images_are_resized_as_pillow_does(height, width):
    """Pillow's bilinear filter is the antialiased one, too; it rounds to 8 bits in between."""
    image = gaussian(np.random.default_rng(10).random((height, width, 3)), 2, channel_axis=-1)
    image = np.rint(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    seen = []

    def network(batch, training):
        seen.append(np.array(batch))
        return np.zeros((len(batch), fid.FEATURES), np.float32)

    fid.features(image[None], network)
    expected = np.asarray(Image.fromarray(image).resize((299, 299), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(seen[0][0], expected / 127.5 - 1, atol=1.01 / 127.5)


def test_random_weights_are_the_same_every_time(network):
    again = fid.load_network(weights=None)
    for a, b in zip(network.get_weights()[:8], again.get_weights()[:8], strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_from_a_file(network, tmp_path):
    path = tmp_path / "inception.weights.h5"
    network.save_weights(path)
    loaded = fid.load_network(path)
    for a, b in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_offline_is_one_clear_message(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    with pytest.raises(UserError, match="--fid: needs InceptionV3's weights, which could not be downloaded") as caught:
        fid.load_network("imagenet")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing\.h5: expected an \.h5 file.*found nothing"):
        fid.load_network(tmp_path / "missing.h5")
    (tmp_path / "a.keras").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.keras: expected an \.h5 file.*another kind of file"):
        fid.load_network(tmp_path / "a.keras")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(UserError, match=r"--fid_weights=.*text\.h5: does not fit"):
        fid.load_network(tmp_path / "text.h5")
    inputs = keras.Input([4])
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match=r"other\.weights\.h5: does not fit"):
        fid.load_network(tmp_path / "other.weights.h5")


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)]
)
def test_other_arrays_are_refused(images, network):
    with pytest.raises(ValueError, match="uint8"):
        fid.features(images, network)
