"""Folders of photos to shards: contents against TensorFlow's own reader and Pillow, kills, damage and bad flags."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from glcic_tf.common.errors import UserError
from glcic_tf.data import shards
from glcic_tf.data.prepare import entry, merge, parts, prepare_folder, tfrecords
from glcic_tf.data.prepare.entry import Settings
from glcic_tf.imaging import images, photo_folders

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(short_side_px=40)
SHARD_MB = 0.008


def smooth(seed, height, width):
    """Random colours that JPEG keeps well."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
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


SKIPPED = {
    "broken.jpg": "is broken or incomplete",
    "pipe.jpg": "is a pipe; expected an image file",
    "strip.png": "is a strip of 1 x 60 px; expected at most 50:1",
    "text.png": "is not an image that can be read",
}
DUPLICATES = {"some/where/same pixels.bmp": "a/large.png", "z copy.jpg": "some/small 3.jpg"}
COPIED = {*(f"some/small {i}.jpg" for i in range(6)), "upright.jpg"}


def prepared(folder, output, **options):
    return prepare_folder.prepare(
        folder, output, **{"photo_settings": SETTINGS, "shard_mb": SHARD_MB, "processes": 1} | options
    )


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("done") / "shards"
    return output, prepared(folder, output)


def contents(output):
    """{file: bytes}, the notes in parts/ included."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def examples_of(output):
    """What TensorFlow reads: it checks lengths and CRCs."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
    }
    paths = sorted(str(path) for path in output.glob("*.tfrecord"))
    dataset = tf.data.TFRecordDataset(paths)
    return [
        {name: value.numpy() for name, value in tf.io.parse_single_example(one, features).items()} for one in dataset
    ]


# What is written.


def test_tensorflow_reads_what_the_index_says(folder, done):
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


def test_order_is_that_of_the_folder(folder, done):
    names = [os.fsencode(path.relative_to(folder)) for path in photo_folders.find_photos(folder)]
    left_out = {os.fsencode(name) for name in [*SKIPPED, *DUPLICATES]}
    table = shards.Shards(done[0]).table
    assert [table.name(i) for i in range(len(table))] == [name for name in names if name not in left_out]
    assert names.index(b"a/large.png") < names.index(b"a-b/large.JPG")  # as strings they are the other way round


def test_pixels_are_those_of_the_photos(folder, done):
    """Small JPEGs are there bit for bit; the others as Pillow turns and averages them."""
    opened = shards.Shards(done[0])
    assert done[1]["copied"] == len(COPIED)
    for number, example in enumerate(examples_of(done[0])):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + example["image/filename"]))
        content = path.read_bytes()
        if str(path.relative_to(folder)) in COPIED:
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


def test_progressive_jpegs_are_kept_if_asked_for(folder, tmp_path):
    data = (folder / "progressive.jpeg").read_bytes()
    assert entry.prepare(folder / "progressive.jpeg", b"x", SETTINGS).copied is False
    made = entry.prepare(folder / "progressive.jpeg", b"x", SETTINGS._replace(keep_progressive=True))
    assert made.copied and data in made.record
    for name in ("grey.jpg", "cmyk.jpg", "a/large.png"):
        assert not entry.prepare(folder / name, b"x", Settings(keep_progressive=True)).copied


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


def test_processes_and_a_second_run_change_nothing(folder, done, tmp_path):
    prepared(folder, tmp_path / "shards", processes=2)
    assert contents(tmp_path / "shards") == contents(done[0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tfrecord")}
    assert prepared(folder, tmp_path / "shards") == done[1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tfrecord")}


# Kills itself (-9) at the n-th call of a function.
KILLED = """
import os, signal, sys
from glcic_tf.data.prepare import merge, parts, prepare_folder
from glcic_tf.data.prepare.entry import Settings
module, name, count = sys.argv[3:6]
module = {"parts": parts, "merge": merge, "os": os}[module]
function, calls = getattr(module, name), []
def killing(*args, **options):
    calls.append(0)
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **options)
setattr(module, name, killing)
prepare_folder.prepare(sys.argv[1], sys.argv[2], Settings(short_side_px=40), 0.008, processes=1)
"""


@pytest.mark.parametrize(
    ("module", "name", "count", "whole"),
    [
        ("os", "replace", 3, 0),  # settings, then the first shard: it has its name, but is not noted
        ("parts", "_sync_and_close", 3, 1),  # the second shard is written, and has no name yet
        ("merge", "_write", 3, None),  # all but index.json
    ],
)
def test_killed_and_started_again_ends_the_same(folder, done, tmp_path, module, name, count, whole):
    output = tmp_path / "shards"
    arguments = [sys.executable, "-c", KILLED, folder, output, module, name, str(count)]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (output / "index.json").exists()
    with pytest.raises(UserError, match="holds shards and no index.json: glcic prepare has not finished"):
        shards.Shards(output)
    finished = {
        path.with_suffix("").name for path in (output / "parts").glob("*.finished") if not path.name.startswith(".")
    }
    assert whole is None or len(finished) == whole
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.tfrecord") if path.stem in finished}
    prepared(folder, output)
    assert before == {path: path.stat().st_mtime_ns for path in before}, "a finished shard was made again"
    assert contents(output) == contents(done[0])


def test_damaged_and_missing_pieces_are_made_again(folder, done, tmp_path):
    output = tmp_path / "shards"
    shutil.copytree(done[0], output)
    names = sorted(path.name for path in output.glob("*.tfrecord"))
    (output / names[-1]).unlink()
    notes = parts.finished_path(output, 1, 2)
    notes.write_bytes(notes.read_bytes()[:-1] + b"?")
    prepared(folder, output)
    assert contents(output) == contents(done[0])


def test_parts_make_the_same_index_in_any_order(folder, done, tmp_path, capsys):
    output, elsewhere = tmp_path / "shards", tmp_path / "elsewhere"
    assert prepared(folder, output, part=(3, 3)) is None
    assert prepared(folder, output, part=(1, 3)) is None
    assert "part 1 of 3 is done; not done yet: 2. Whichever is the last writes the index." in capsys.readouterr().out
    with pytest.raises(UserError, match="part 2 of 3 is not finished; run it with --part=2/3, or copy"):
        merge.merge(output)
    assert prepared(folder, elsewhere, part=(2, 3)) is None  # on a machine with its own disk
    shutil.copytree(elsewhere, output, dirs_exist_ok=True)
    found = merge.merge(output)
    one, other = shards.Shards(done[0]), shards.Shards(output)
    for name in ("length", "crc32", "height", "width", "mean", "name_end"):
        np.testing.assert_array_equal(getattr(one.table, name), getattr(other.table, name))
    assert one.table.names.tobytes() == other.table.names.tobytes()
    assert [one.jpeg(i) for i in range(16)] == [other.jpeg(i) for i in range(16)]
    assert (output / "skipped.jsonl").read_bytes() == (done[0] / "skipped.jsonl").read_bytes()
    assert {key: found[key] for key in ("mean_pixel", "photos", "skipped", "duplicates")} == {
        key: done[1][key] for key in ("mean_pixel", "photos", "skipped", "duplicates")
    }
    assert len(examples_of(output)) == 18  # the two duplicates of other parts are in the shards, not in the index
    assert merge.verify(output) == found


def test_more_parts_than_photos(folder, tmp_path):
    (tmp_path / "two").mkdir()
    for name in ("tiny.bmp", "turned.jpg"):
        shutil.copy(folder / name, tmp_path / "two")
    for part in range(1, 5):
        found = prepared(tmp_path / "two", tmp_path / "shards", part=(part, 4))
        assert (found is None) == (part < 4)
    assert found["photos"] == 2 and [shard["photos"] for shard in found["shards"]] == [1, 1]


CRASHING = """
import os, signal
from glcic_tf.data.prepare.entry import prepare_all
def crash(folder, names, settings):
    if "some/small 2.jpg" in names:
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_all(folder, names, settings)
"""


def test_a_photo_that_crashes_a_process_is_skipped_alone(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "crashing.py").write_text(CRASHING)  # the other processes import it, and not this module
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(prepare_folder, "prepare_all", importlib.import_module("crashing").crash)
    found = prepared(folder, tmp_path / "shards", processes=2)
    assert (found["photos"], found["skipped"]) == (15, 5)
    assert "small 2.jpg: ended the process that decoded it (exit code -9)" in capsys.readouterr().err


# What cannot work.


def test_folders_that_cannot_be_used(folder, done, tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    with pytest.raises(UserError, match="photos: holds no photo; expected files that end in .jpg"):
        prepared(source, tmp_path / "shards")
    (source / "a.jpg").write_text("no image")
    with pytest.raises(UserError, match="none of the 1 photos can be used, a.jpg for example is not an image"):
        prepared(source, tmp_path / "shards")
    assert not (tmp_path / "shards" / "index.json").exists()
    for output in (source, source / "shards", source / ".." / "photos" / "x"):
        with pytest.raises(UserError, match="--output=.*: lies in --input="):
            prepared(source, output)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "letter.txt").write_text("")
    with pytest.raises(UserError, match="--output=.*others: holds letter.txt, and no shards; choose another"):
        prepared(source, tmp_path / "others")
    with pytest.raises(UserError, match="--output=.*letter.txt: is a file; expected the name of a folder"):
        prepared(source, tmp_path / "others" / "letter.txt")
    with pytest.raises(UserError, match="missing: expected a folder of photos, found nothing"):
        prepared(tmp_path / "missing", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="holds no parts/settings.json; name a folder that prepare writes"):
        merge.merge(source)


def test_another_run_in_the_same_place(folder, done, tmp_path):
    with pytest.raises(UserError, match="begun with other settings .short_side_px was 40, is 32.; give the same, or"):
        prepared(folder, done[0], photo_settings=Settings(32))
    (tmp_path / "one").mkdir()
    shutil.copy(folder / "tiny.bmp", tmp_path / "one")
    with pytest.raises(UserError, match="begun with other photos .22 then, 1 now.; choose another --output, or"):
        prepared(tmp_path / "one", done[0])
    shutil.copytree(done[0], tmp_path / "finished", ignore=shutil.ignore_patterns("parts"))
    with pytest.raises(UserError, match="finished: holds finished shards; choose another, or delete it"):
        prepared(folder, tmp_path / "finished")
    assert merge.verify(tmp_path / "finished") == done[1]  # parts/ is not needed once there is an index


def test_two_processes_at_one_part(folder, tmp_path):
    parts.write_settings(tmp_path, {"parts": 1, "found": 1})
    with (
        parts.locked(tmp_path, 1),
        pytest.raises(UserError, match="another process writes part 1 of it; wait for it, or take another --part"),
        parts.locked(tmp_path, 1),
    ):
        pass
    with parts.locked(tmp_path, 1), parts.locked(tmp_path, 2):
        pass


def test_no_room_leaves_no_half_shard(folder, tmp_path, monkeypatch):
    def full(file):
        file.close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "_sync_and_close", full)
    with pytest.raises(UserError, match="shard-0001-00001.tfrecord: cannot be written .No space left on device.; see"):
        prepared(folder, tmp_path / "shards")
    assert {path.name for path in (tmp_path / "shards").rglob("*")} == {"parts", "settings.json", ".lock-0001"}


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


def test_command(folder, done, tmp_path):
    def command(*arguments):
        ended = subprocess.run(
            [sys.executable, "-m", "glcic_tf", "prepare", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert "Traceback" not in ended.stderr
        return ended

    output = tmp_path / "shards"
    flags = [f"--input={folder}", f"--output={output}", "--short_side=40", "--shard_mb=0.008", "--max_megapixels=268"]
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
