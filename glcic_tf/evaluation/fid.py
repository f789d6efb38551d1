"""Frechet distance of InceptionV3 features (FID; Heusel et al. 2017) between original and completed images.

Two cautions. The network is Keras' InceptionV3 with its ImageNet weights, not the TF-Slim network of 2015 that defines
the FID of the literature: figures can be compared with one another but not with published FID. And the estimate is
biased: it falls as images are added, so only sets of the same size can be compared; below a few thousand images it can
at best rank methods on the same photos.
"""

from pathlib import Path

import numpy as np

from glcic_tf.common.errors import UserError, first_line

INPUT_PX = 299  # side of the images that the network was trained on
FEATURES = 2048  # channels of its last block, averaged over the image
BATCH = 16  # images at once: bounds the memory


def load_network(weights="imagenet"):
    """Build InceptionV3 without its classifier.

    Args:
        weights: "imagenet" (95 MB, downloaded once and then kept by Keras), an `.h5` file of the network's weights
            without the classifier, or None: random, the same every time (this sets Keras' global random seed).

    Returns:
        keras.Model, [batch, 299, 299, 3] in [-1, 1] -> [batch, 2048].

    Raises:
        UserError: the weights cannot be downloaded, or the file is missing or does not fit.
    """
    import keras

    if weights is None:
        keras.utils.set_random_seed(0)
    elif weights != "imagenet":
        if Path(weights).suffix != ".h5" or not Path(weights).is_file():
            found = "another kind of file" if Path(weights).exists() else "nothing"
            raise UserError(f"--fid_weights={weights}: expected an .h5 file of InceptionV3's weights, found {found}.")
        weights = str(weights)
    shape = (INPUT_PX, INPUT_PX, 3)
    try:
        return keras.applications.InceptionV3(include_top=False, weights=weights, input_shape=shape, pooling="avg")
    # Keras raises a bare Exception where a download fails, and anything at all where a file does not fit.
    except Exception as error:
        if weights is None:
            raise
        if weights == "imagenet":
            raise UserError(
                f"--fid: needs InceptionV3's weights, which could not be downloaded ({first_line(error)}); go online "
                "once, give the file as --fid_weights, or leave --fid out."
            ) from error
        raise UserError(
            f"--fid_weights={weights}: does not fit InceptionV3 without its classifier ({first_line(error)}); expected "
            "the file inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5 that Keras publishes."
        ) from error


def features(images, network):
    """Compute the features of images.

    Args:
        images: [batch, height, width, 3] uint8 RGB; resized to 299 x 299 px, bilinear with antialiasing.
        network: from `load_network`.

    Returns:
        [batch, 2048] float32.

    Raises:
        ValueError: another shape or dtype.
    """
    import keras

    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"Expected uint8 [batch, height, width, 3], found {images.dtype} {list(images.shape)}.")
    found = []
    for begin in range(0, len(images), BATCH):
        batch = images[begin : begin + BATCH].astype(np.float32)
        batch = keras.ops.image.resize(
            batch, (INPUT_PX, INPUT_PX), interpolation="bilinear", antialias=True, data_format="channels_last"
        )
        batch = keras.applications.inception_v3.preprocess_input(batch, data_format="channels_last")
        found.append(keras.ops.convert_to_numpy(network(batch, training=False)))
    return np.concatenate(found) if found else np.zeros((0, FEATURES), np.float32)


class Statistics:
    """Mean and covariance of features that come in parts, in float64.

    Attributes:
        n: number of rows so far.
        mean: [features].
    """

    def __init__(self, size=FEATURES):
        self.n = 0
        self.mean = np.zeros(size)
        self._scatter = np.zeros((size, size))  # sum of the outer products of the deviations from the mean

    def add(self, rows):
        """Add features [rows, features]; their order only changes the last bits."""
        rows = np.asarray(rows, np.float64)
        if not len(rows):
            return
        # Chan et al. 1979; numerically stable, unlike sums of squares.
        mean = rows.mean(axis=0)
        shift, total = mean - self.mean, self.n + len(rows)
        deviations = rows - mean
        self._scatter += deviations.T @ deviations + np.outer(shift, shift) * (self.n * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.n = total

    def covariance(self):
        """Return the unbiased covariance [features, features].

        Raises:
            UserError: there are fewer than two rows.
        """
        if self.n < 2:
            raise UserError(f"--fid: needs at least 2 images, found {self.n}; add photos, or leave --fid out.")
        return self._scatter / (self.n - 1)


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b):
    """Compute the squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Args:
        mean_a, mean_b: [features].
        covariance_a, covariance_b: [features, features], symmetric and positive semi-definite; they may be singular,
            as they are if there are fewer images than features.

    Returns:
        float, 0 or more; 0 for equal Gaussians up to rounding.
    """
    # With A = R R^T, tr (A B)^(1/2) is tr (R^T B R)^(1/2). R^T B R is symmetric, so that no step leaves the real
    # numbers, as a root of A B itself does for singular matrices; and its size is A's rank, one less than the images.
    values, vectors = np.linalg.eigh(covariance_a)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    root = vectors[:, kept] * np.sqrt(values[kept])
    product = np.linalg.eigvalsh(root.T @ covariance_b @ root)
    distance = np.sum(np.square(np.asarray(mean_a) - mean_b)) + np.trace(covariance_a) + np.trace(covariance_b)
    return max(float(distance - 2 * np.sum(np.sqrt(np.maximum(product, 0)))), 0.0)


def distance(a, b):
    """Compute the Frechet distance of two `Statistics`.

    Raises:
        UserError: one of them holds fewer than two images.
    """
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())
