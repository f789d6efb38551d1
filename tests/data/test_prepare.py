"""Folders of photos to shards: contents against TensorFlow's own reader and Pillow, and damage that --verify finds."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from prepare_helpers import COPIED, ROOT, SETTINGS, SHARD_MB, contents, examples_of, smooth

from glcic_tf.common.errors import UserError
from glcic_tf.data import shards
from glcic_tf.data.prepare import entry, merge, tfrecords
from glcic_tf.data.prepare.entry import Settings
from glcic_tf.imaging import images, photo_folders

SKIPPED = {
    "broken.jpg": "is broken or incomplete",
    "pipe.jpg": "is a pipe; expected an image file",
    "strip.png": "is a strip of 1 x 60 px; expected at most 50:1",
    "text.png": "is not an image that can be read",
}
DUPLICATES = {"some/where/same pixels.bmp": "a/large.png", "z copy.jpg": "some/small 3.jpg"}


# What is written.


def test_tensorflow_reads_what_the_index_says(mixed_photos, done):
    output, found = done
    opened, read = shards.Shards(output), examples_of(output)
    assert found["photos"] == len(read) == len(opened.table) == 16
    assert len(found["shards"]) == len(list(output.glob("*.tfrecord"))) > 2
    for number, example in enumerate(read):
        assert example["image/encoded"] == opened.jpeg(number)
        assert example["image/filename"] == opened.table.name(number)
        assert (example["image/height"], example["image/width"]) == opened.photos()[number].size
        assert example["image/format"] == b"jpeg"
        decoded = tf.io.decode_jpeg(example["image/encoded"], channels=3, dct_method="INTEGER_ACCURATE").numpy()
        assert np.abs(decoded.astype(int) - opened.photo(number)).max() <= 1
        np.testing.assert_allclose(opened.table.mean[number], opened.photo(number).mean((0, 1)), rtol=1e-12)
    means = np.mean([opened.photo(i).mean((0, 1)) for i in range(16)], axis=0) / 255
    np.testing.assert_allclose(found["mean_pixel"], means, atol=1e-6)


def test_order_is_that_of_the_folder(mixed_photos, done):
    names = [os.fsencode(path.relative_to(mixed_photos)) for path in photo_folders.find_photos(mixed_photos)]
    left_out = {os.fsencode(name) for name in [*SKIPPED, *DUPLICATES]}
    table = shards.Shards(done[0]).table
    assert [table.name(i) for i in range(len(table))] == [name for name in names if name not in left_out]
    assert names.index(b"a/large.png") < names.index(b"a-b/large.JPG")  # as strings they are the other way round


def test_pixels_are_those_of_the_photos(mixed_photos, done):
    """Small JPEGs are there bit for bit; the others as Pillow turns and averages them."""
    opened = shards.Shards(done[0])
    assert done[1]["copied"] == len(COPIED)
    for number, example in enumerate(examples_of(done[0])):
        path = Path(os.fsdecode(os.fsencode(mixed_photos) + b"/" + example["image/filename"]))
        content = path.read_bytes()
        if str(path.relative_to(mixed_photos)) in COPIED:
            assert example["image/encoded"] == content
            np.testing.assert_array_equal(opened.photo(number), images.read_photo(path))
            continue
        assert example["image/encoded"] != content and entry.is_plain_jpeg(example["image/encoded"])
        expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        factor = 40 / min(expected.size)
        if factor < 1:
            size = [max(40, round(side * factor)) for side in expected.size]
            expected = expected.resize(size, Image.Resampling.BOX)
        found = opened.photo(number)
        assert found.shape[1::-1] == expected.size
        assert np.abs(found - np.asarray(expected, float)).mean() < 3, path


def test_what_is_left_out_is_named(done, capsys):
    output, found = done
    assert (found["skipped"], found["duplicates"]) == (4, 2)
    lines = [json.loads(line) for line in (output / "skipped.jsonl").read_text().splitlines()]
    assert {line["name"]: line["duplicate_of"] for line in lines if "duplicate_of" in line} == DUPLICATES
    reasons = {line["name"]: line["reason"] for line in lines if "reason" in line}
    assert reasons.keys() == SKIPPED.keys()
    for name, reason in SKIPPED.items():
        assert reasons[name].startswith(reason)


def test_shards_end_where_the_next_photo_would_not_fit(done):
    for before, after in zip(done[1]["shards"], done[1]["shards"][1:], strict=False):
        first = next(iter(tf.data.TFRecordDataset(str(done[0] / after["file"])))).numpy()
        assert before["bytes"] <= SHARD_MB * 1e6 < before["bytes"] + 16 + len(first)


def test_progressive_jpegs_are_kept_if_asked_for(mixed_photos, tmp_path):
    data = (mixed_photos / "progressive.jpeg").read_bytes()
    assert entry.prepare(mixed_photos / "progressive.jpeg", b"x", SETTINGS).copied is False
    made = entry.prepare(mixed_photos / "progressive.jpeg", b"x", SETTINGS._replace(keep_progressive=True))
    assert made.copied and data in made.record
    for name in ("grey.jpg", "cmyk.jpg", "a/large.png"):
        assert not entry.prepare(mixed_photos / name, b"x", Settings(keep_progressive=True)).copied


def test_jpegs_with_much_beside_their_pixels_are_encoded_anew(tmp_path):
    smooth(0, 40, 40).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content + bytes(100_000))
    made = entry.prepare(tmp_path / "x.jpg", b"x", Settings())
    assert not made.copied and len(made.record) < 10_000


def test_bounds_of_untrusted_files(tmp_path):
    with open(tmp_path / "long.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(2**32)  # takes no room
    with pytest.raises(UserError, match="has 4294967296 bytes; expected an image file of at most"):
        entry.prepare(tmp_path / "long.jpg", b"x", Settings())
    smooth(0, 40, 40).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="raise --max_megapixels"):
        entry.prepare(tmp_path / "x.png", b"x", Settings(max_pixels=1599))
    with pytest.raises(UserError, match="missing.jpg: cannot be read"):
        entry.prepare(tmp_path / "missing.jpg", b"x", Settings())


def test_crc32c_equals_the_definition():
    def bit_by_bit(data):
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    assert tfrecords.crc32c(b"123456789") == 0xE3069283  # the check value of CRC catalogues
    data = np.random.default_rng(0).bytes(1300)
    for length in [*range(4, 70), 127, 128, 129, 1000, 1300]:
        assert tfrecords.crc32c(data[:length]) == bit_by_bit(data[:length])


# The same, whatever happens.


# What cannot work.


@pytest.mark.parametrize("where", ["photo", "between"])
def test_verify_names_the_shard_and_the_byte(done, tmp_path, where):
    output = tmp_path / "shards"
    shutil.copytree(done[0], output)
    shard = output / done[1]["shards"][1]["file"]
    first = done[1]["shards"][0]["photos"]
    offset = int(shards.Shards(output).table.offset[first + 1])
    content = bytearray(shard.read_bytes())
    content[offset + 9 if where == "photo" else 3] ^= 1
    shard.write_bytes(content)
    message = rf"{shard.name}: is damaged at byte {offset}, in photo .* checksum differs"
    with pytest.raises(UserError, match=message if where == "photo" else f"{shard.name}: is damaged .* between its"):
        merge.verify(output)


def test_command(mixed_photos, done, tmp_path):
    def command(*arguments):
        ended = subprocess.run(
            [sys.executable, "-m", "glcic_tf", "prepare", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert "Traceback" not in ended.stderr
        return ended

    output = tmp_path / "shards"
    flags = [
        f"--input={mixed_photos}",
        f"--output={output}",
        "--short_side=40",
        "--shard_mb=0.008",
        "--max_megapixels=268",
    ]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda extra: command(*flags, *extra), [["--part=3/2"], ["--processes=1"]]))
    assert ended[0].returncode == 2 and "expected i/n with 1 <= i <= n" in ended[0].stderr
    assert ended[1].returncode == 0
    assert re.fullmatch(
        r".*shards: 16 photos in [0-9]+ shards? of 0.0 MB; left out: 4 that cannot be used, 2 duplicates\n",
        ended[1].stdout,
    )
    assert "glcic prepare: skipped strip.png: is a strip of 1 x 60 px" in ended[1].stderr
    assert sorted(contents(output)) == sorted(contents(done[0]))
    assert command(f"--output={tmp_path}", "--verify").returncode == 1
