"""Photos to measure with, of any size, made from those inside the installed scikit-image package (CC0)."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.apps import demo
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.imaging import images

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
JPEG_QUALITY = 92  # with the noise below: about 0.3 bytes per pixel, as the photos of a phone have
_GRAIN, _DETAIL = 4.0, 5.0  # standard deviations, grey levels: of each pixel's channels, and of each octave above


def write(folder, count, megapixels, seed=0):
    """Write `count` different JPEGs (4:2:0) of one size.

    Each is a part of a sample photo, enlarged or reduced to 4:3 (every fourth to 3:4). An enlarged photo is smooth,
    and a JPEG of it small and quick to read; so noise is added to it at every scale that it has no detail of.

    Args:
        folder: an existing folder.
        count: photos.
        megapixels: of each.
        seed: of the parts and of the noise.

    Returns:
        list of pathlib.Path.
    """
    samples = [demo.sample_photo(name) for name in SAMPLES]
    longer, shorter = (max(8, round((megapixels * 1e6 * ratio) ** 0.5)) for ratio in (4 / 3, 3 / 4))
    paths = []
    for i in range(count):
        rng, sample = np.random.default_rng([seed, i]), samples[i % len(samples)]
        height, width = (longer, shorter) if i % 4 == 3 else (shorter, longer)
        sides = [int(length * rng.uniform(0.7, 1)) for length in sample.shape[:2]]
        top, left = (int(rng.integers(0, length - side + 1)) for length, side in zip(sample.shape, sides, strict=False))
        part = sample[top : top + sides[0], left : left + sides[1]]
        if i % 8 >= 4:
            part = part[:, ::-1]
        paths.append(Path(folder, f"{i:04}.jpg"))
        images.write_image(paths[-1], _resized(part, height, width, rng), JPEG_QUALITY)
    return paths


def shards(folder, output):
    """Write shards of a folder as a user would; return their folder."""
    command = [sys.executable, "-m", "glcic_tf", "prepare", f"--input={folder}", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"glcic prepare failed: {first_line((done.stderr.strip().splitlines() or [''])[-1])}")
    return str(output)


def _resized(part, height, width, rng):
    enlargement = height / part.shape[0]
    method = cv2.INTER_CUBIC if enlargement > 1 else cv2.INTER_AREA
    resized = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=method).astype(np.float32)
    noise, cell = np.zeros((height, width), np.float32), 2
    while cell <= enlargement:
        coarse = rng.standard_normal((-(-height // cell), -(-width // cell)), np.float32)
        noise += _DETAIL * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cell *= 2
    resized += noise[..., None]
    if enlargement > 1:
        resized += _GRAIN * rng.standard_normal(resized.shape, np.float32)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
