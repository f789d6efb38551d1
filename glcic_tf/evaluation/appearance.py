"""Figures of how completions look, which need a network, or all photos at once."""

import collections

import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import bootstrap, fid, grid, kid, lpips, perceptual


def load_networks(lpips_weights=None, fid_weights=None):
    """Load the networks that figures need.

    Args:
        lpips_weights: measure LPIPS as published too, with this file of VGG16's weights; "cache": with PyTorch's own
            copy; None: do not measure it.
        fid_weights: measure FID too, with these weights, see `fid.load_network`; None: do not measure it.

    Returns:
        (networks, notes): {"perceptual", "lpips" or "fid": keras.Model}, for `Appearance`; and a list of sentences
        about what cannot be measured.

    Raises:
        UserError: weights that were asked for are missing.
    """
    networks, notes = {}, []
    try:
        networks["perceptual"] = perceptual.network()
    except UserError as error:
        notes.append(f"Not measured: {error}")
    if lpips_weights:
        networks["lpips"] = lpips.load(None if lpips_weights == "cache" else lpips_weights)
    if fid_weights:
        networks["fid"] = fid.load_network(fid_weights)
    return networks, notes


class Appearance:
    """Collects, photo by photo, what the figures of all photos together need, for every method and the originals."""

    def __init__(self, networks):
        """Start empty. `networks`: from `load_networks`; figures whose network is missing are not measured."""
        self._networks = networks
        self._original = None, None  # name and features of the photo that was looked at last
        self._pooled = collections.defaultdict(dict)  # {method: {photo: features for kid}}
        self._amplitudes = collections.defaultdict(dict)  # {method: {photo: amplitudes or None}}
        self._statistics = {}  # {method: fid.Statistics}

    def add(self, name, hole, images):
        """Look at one photo.

        Args:
            name: the photo's name.
            hole: [height, width] bool.
            images: {method: [height, width, 3] uint8} of its completions, and "original".

        Returns:
            {method: {"perceptual": float, "lpips": float}}, as far as they are measured; without "original".
        """
        original = images["original"]
        found = {method: {} for method in images if method != "original"}
        for method, image in images.items():
            if method != "original" or name not in self._amplitudes[method]:
                self._amplitudes[method][name] = grid.amplitudes(image, hole)
                if "fid" in self._networks:
                    self._add_statistics(method, image)
        if "perceptual" in self._networks:
            real = self._features_of_original(name, original, hole)
            for method, figures in found.items():
                features = perceptual.features(images[method], hole, self._networks["perceptual"])
                figures["perceptual"] = perceptual.distance(real, features)
                self._pooled[method][name] = features.pooled
        if "lpips" in self._networks:
            for method, figures in found.items():
                figures["lpips"] = lpips.distance(original, images[method], self._networks["lpips"])
        return found

    def means(self, method):
        """Figures of the whole set of a method's completions, {metric: bootstrap.Mean}, as far as they are measured."""
        photos = sorted(self._amplitudes[method])
        if not photos:
            return {}
        peaks = grid.peaks([self._amplitudes[method][name] for name in photos])
        means = {f"grid{period}": mean for period, mean in peaks.items()}
        if "perceptual" in self._networks:
            sets = [np.stack([self._pooled[kind][name] for name in photos]) for kind in ("original", method)]
            means["kid"] = kid.distance(*sets)
        if method in self._statistics and self._statistics[method].n > 1:
            distance = fid.distance(self._statistics["original"], self._statistics[method])
            means["fid"] = bootstrap.Mean(distance, float("nan"), float("nan"), self._statistics[method].n)
        return means

    def notes(self):
        """A line about the originals: the grid that a perfect method would have on these photos."""
        peaks = grid.peaks(list(self._amplitudes["original"].values()))
        if not peaks[grid.PERIODS[0]].n:
            return [f"Grid: not measured, as no hole has room for a square of {grid.TILE_PX} px."]
        figures = ", ".join(f"{peak.mean:.2f} at {period} px" for period, peak in peaks.items())
        return [f"Grid of the original photos: {figures}."]

    def _features_of_original(self, name, image, hole):
        if self._original[0] != name:
            self._original = name, perceptual.features(image, hole, self._networks["perceptual"])
            self._pooled["original"][name] = self._original[1].pooled
        return self._original[1]

    def _add_statistics(self, method, image):
        network = self._networks["fid"]
        statistics = self._statistics.setdefault(method, fid.Statistics(network.output_shape[-1]))
        statistics.add(fid.features(image[None], network))
