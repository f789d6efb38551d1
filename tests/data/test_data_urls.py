"""Training data behind URLs that fsspec reads: photos and shards, read and prepared as those of this machine."""

import shutil

import fsspec
import numpy as np
import pytest
from PIL import Image

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data import sources
from glcic_tf.data.prepare import prepare_folder
from tests.common.web_server import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photos/, of which one is broken, and the shards of them."""
    folder = tmp_path_factory.mktemp("data")
    for i in range(12):
        path = folder / "photos" / ("a", "a b", "ü")[i % 3] / f"{i:02d} #1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(np.random.default_rng(i).integers(0, 256, (3, 4, 3), np.uint8))
        small.resize((20 + i, 40 - i), Image.Resampling.BICUBIC).save(path, quality=90)
    (folder / "photos" / "broken.jpg").write_bytes(path.read_bytes()[:300])
    (folder / "photos" / "@eaDir").mkdir()
    shutil.copy(path, folder / "photos" / "@eaDir" / "thumbnail.jpg")
    prepare_folder.prepare(folder / "photos", folder / "shards", shard_mb=0.004, processes=1)
    return folder


@pytest.fixture(params=["memory", "web"])
def url(request, folder):
    if request.param == "web":
        with serving(folder) as (url, _):
            yield url
    else:
        memory = fsspec.filesystem("memory")
        memory.put(str(folder), "/bucket/", recursive=True)
        yield f"memory://bucket/{folder.name}"
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.name[0] != "."}


@pytest.mark.parametrize("kind", ["photos", "shards"])
def test_photos_are_those_of_the_folder(url, folder, kind):
    here, there = sources.find_photos(folder / kind), sources.find_photos(f"{url}/{kind}")
    assert len(here) == len(there) and sources.fingerprint(here) == sources.fingerprint(there)
    for number in range(12):
        assert here[number].name == there[number].name
        if here[number].name == "broken.jpg":
            continue
        assert np.array_equal(here[number].read(), there[number].read())


def test_shards_of_a_url_are_those_of_the_folder(url, folder, tmp_path, capsys):
    processes = 2 if url.startswith("http") else 1  # memory is this process's alone
    prepare_folder.prepare(f"{url}/photos", tmp_path / "shards", shard_mb=0.004, processes=processes)
    assert contents(tmp_path / "shards") == contents(folder / "shards")
    assert "skipped broken.jpg: is broken or incomplete" in capsys.readouterr().err


def test_storage_that_does_not_answer_stops_the_run_which_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_WAIT_SECONDS", 0)
    with serving(folder) as (url, server):
        handler = server.RequestHandlerClass.func
        get = handler.do_GET
        monkeypatch.setattr(handler, "do_GET", lambda h: h.send_error(503) if "08" in h.path else get(h))
        call = f"{url}/photos/", tmp_path / "shards"
        with pytest.raises(UserError, match=r"08%20%231.jpg: cannot be read \(503"):
            prepare_folder.prepare(*call, shard_mb=0.004, processes=1)
        monkeypatch.undo()
        prepare_folder.prepare(*call, shard_mb=0.004, processes=1)
    assert contents(tmp_path / "shards") == contents(folder / "shards")


def test_a_folder_behind_a_url_that_is_not_there(url, tmp_path):
    for name, found in (("none", "nothing"), ("photos/a/00 #1.jpg", "something else")):
        place = storage.join(url, name).url
        with pytest.raises(UserError, match=f": expected a folder of photos, found {found}"):
            prepare_folder.prepare(place, tmp_path / "shards")
