"""Photos, and shards of them, for several files of tests."""

import os
import shutil

import numpy as np
import prepare_helpers
import pytest
from PIL import Image
from prepare_helpers import smooth
from shard_helpers import COUNT

from glcic_tf.data.prepare import prepare_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty small JPEGs of several sizes, in folders whose names sort otherwise as strings."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / ("a", "a-b", "ü")[i % 3] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
        small.resize((20 + i, 40 - i // 2), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "shards"
    assert prepare_folder.prepare(folder, output, shard_mb=0.008, processes=1)["copied"] == COUNT
    return output


@pytest.fixture(scope="module")
def mixed_photos(tmp_path_factory):
    """Photos of all kinds: 16 that can be used, two that equal others, four that cannot be used."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for name in ("a", "a-b", "some/where", ".hidden"):
        (folder / name).mkdir(parents=True)
    for i in range(6):
        smooth(i, 35 + i, 50).save(folder / "some" / f"small {i}.jpg", quality=90)
    smooth(10, 80, 100).save(folder / "a" / "large.png")
    smooth(11, 121, 83).save(folder / "a-b" / "large.JPG", quality=95)
    smooth(12, 30, 36).save(folder / "tiny.bmp")
    smooth(13, 38, 60).save(folder / "progressive.jpeg", progressive=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth(14, 40, 52).save(folder / "turned.jpg", exif=turned, quality=95)
    upright = Image.Exif()
    upright[0x010F] = "a maker"
    smooth(15, 40, 44).save(folder / "upright.jpg", exif=upright)
    smooth(16, 40, 44).convert("L").save(folder / "grey.jpg", quality=95)
    smooth(17, 44, 48).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    smooth(18, 40, 41).save(folder / "ä ü.webp", lossless=True)
    smooth(19, 40, 42).save(os.fsencode(folder) + b"/latin \xe4.png", format="PNG")
    shutil.copy(folder / "some" / "small 3.jpg", folder / "z copy.jpg")
    Image.open(folder / "a" / "large.png").save(folder / "some" / "where" / "same pixels.bmp")
    (folder / "broken.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:300])
    (folder / "text.png").write_text("no image")
    Image.new("RGB", (1, 60)).save(folder / "strip.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("no photo")
    smooth(20, 40, 40).save(folder / ".hidden" / "photo.png")
    return folder


@pytest.fixture(scope="module")
def done(mixed_photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("done") / "shards"
    return output, prepare_helpers.prepared(mixed_photos, output)
