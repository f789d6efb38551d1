"""Networks by name: files of the published layouts, served on loopback, become model files in the user's cache."""

import dataclasses
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import published_files
import published_weights
import pytest

from glcic_tf.common.downloads import Digest
from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.convert import LICENCES, model_downloads, model_names, models_command, published
from glcic_tf.evaluation import methods
from glcic_tf.export import export_command
from glcic_tf.networks import DEFAULT_MODEL, model_file
from glcic_tf.networks.completion import completion_network

NARROW = 1 / 32
PUBLISHED = ["places2", "places2_freeform", "celeba", "mmagic_places", "mmagic_celeba"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder as on the web: a file of the right layout under each published name, and a model file of our own."""
    folder = tmp_path_factory.mktemp("web")
    for name in PUBLISHED:
        network = model_names.networks()[name]
        published_files.write(folder, NARROW, **{network.source: network.file})
    model_file.save(completion_network(NARROW), folder / "ours.keras", {"hole_max_px": 7, "hole_min_px": 5})
    (folder / "text.keras").write_text("hello")
    return folder


@pytest.fixture
def asked():
    """Paths that the server was asked for."""
    return []


@pytest.fixture
def web(files, asked):
    """URL of the folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache, empty; the addresses of the published files lead nowhere, their hashes are those of `files`."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    for name in PUBLISHED:
        change(monkeypatch, name, folders=("http://127.0.0.1:1/",), digest=None)
    monkeypatch.delenv(model_downloads.MIRROR, raising=False)
    return tmp_path / "cache" / "models"


def change(monkeypatch, name, **fields):
    network = dataclasses.replace(model_names._PUBLISHED[name], **fields)
    monkeypatch.setitem(model_names._PUBLISHED, name, network)


def listed(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.is_dir() else []


def test_what_is_known_of_published_files(monkeypatch):
    """Where they lie and how they are told, as their authors say it."""
    monkeypatch.undo()
    networks = model_names.networks()
    assert list(networks)[0] == "scenes" and networks["scenes"].ships and set(PUBLISHED) < set(networks)
    assert networks["places2"].folders[0] + networks["places2"].file == (
        "http://iizuka.cs.tsukuba.ac.jp/data/completionnet_places2.t7"
    )
    assert networks["places2"].digest == ("sha1", "4206897fd900b6a5509491900a2c6fb521bf272e")
    for name in PUBLISHED[3:]:  # PyTorch's convention: the digits behind the date begin the SHA-256
        assert networks[name].digest == ("sha256", Path(networks[name].file).stem.split("-")[-1])
    for name, network in networks.items():
        assert network.ships == DEFAULT_MODEL.with_name(f"{name}.keras").is_file()


@pytest.mark.parametrize("name", PUBLISHED)
def test_naming_a_network_downloads_and_converts_it_once(name, web, cache, asked, monkeypatch, capsys):
    monkeypatch.setenv(model_downloads.MIRROR, web)
    network = model_names.networks()[name]
    path = model_names.path_of(name, "--model")
    assert asked == [f"/{network.file}"] and listed(cache) == [f"{name}.keras"]
    said = capsys.readouterr().err
    assert LICENCES[network.source] in said and web in said and "unverified" in said
    notes = model_file.read_metadata(cache / f"{name}.keras")
    assert notes["licence"] == LICENCES[network.source] and notes["downloaded_from"] == web + network.file
    assert path == cache / f"{name}.keras" == model_names.path_of(name)
    assert len(asked) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["places2", "mmagic_celeba"])
def test_the_network_is_that_of_the_file(name, web, cache, monkeypatch):
    network = model_names.networks()[name]
    content = getattr(published_weights, {"torch7": "torch7_release", "mmagic": "mmagic_completion"}[network.source])
    expected, _ = published.convert(content(0, NARROW), network.source, "completion")
    weights = model_file.load(model_names.path_of(name, mirror=web)).get_weights()
    for ours, theirs in zip(weights, expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_command_takes_names(web, cache, tmp_path, monkeypatch):
    monkeypatch.setenv(model_downloads.MIRROR, web)
    found = methods.load(["celeba", "package", "scenes", "ours", cache / "celeba.keras"])
    assert list(found) == ["celeba", "scenes", "ours"]  # each once
    completer = Completer.load("celeba")
    assert completer.postprocess == "poisson" and completer.trained_hole_px == (96, 128)
    export_command.write("celeba", tmp_path / "saved", fold_batch_norm=True, overwrite=False)
    assert (tmp_path / "saved" / "saved_model.pb").is_file()


def test_a_mirrors_own_models(web, cache, asked, monkeypatch):
    with pytest.raises(UserError, match="--model=ours: there is no such file or folder, and no network of this name"):
        model_names.path_of("ours", "--model")
    monkeypatch.setenv(model_downloads.MIRROR, web)
    assert Completer.load("ours").trained_hole_px == (5, 7) and asked == ["/ours.keras"]
    monkeypatch.delenv(model_downloads.MIRROR)
    assert model_names.path_of("ours", "--model") == cache / "ours.keras"
    for name, message in (("text", "gave something else (is not"), ("none", "404 File not found")):
        with pytest.raises(UserError) as error:
            model_names.path_of(name, "--model", mirror=web)
        assert message in str(error.value) and listed(cache) == ["ours.keras"]


def test_names_and_paths(tmp_path, cache, monkeypatch, asked):
    """A name is a network whatever else is called so; a path is never downloaded."""
    monkeypatch.chdir(tmp_path)
    for name in ("places2", "ours"):
        Path(name).mkdir()
    for given, expected in (
        (None, DEFAULT_MODEL),
        ("package", DEFAULT_MODEL),
        ("scenes", DEFAULT_MODEL),
        ("./places2", Path("places2")),
        ("ours", Path("ours")),
        (Path("places2"), Path("places2")),
    ):
        assert model_names.path_of(given, "--model") == expected
    with pytest.raises(UserError, match="places2: could not be downloaded"):
        model_names.path_of("places2")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_names.path_of("~/a.keras") == tmp_path / "a.keras"
    for given in ("no.keras", "../x", "a/b", Path("celeba")):
        with pytest.raises(UserError, match="there is no such file or folder, and no network of this name.* scenes, "):
            model_names.path_of(given, "--model", mirror="http://127.0.0.1:1/")
    assert listed(cache) == []


def test_the_mirror_is_first_and_the_rest_follows(web, cache, asked, monkeypatch):
    change(monkeypatch, "celeba", folders=(web,))
    model_names.path_of("celeba", mirror="http://me:secret@127.0.0.1:1/x")
    assert asked == ["/completionnet_celeba.t7"]
    assert model_file.read_metadata(cache / "celeba.keras")["downloaded_from"] == web + "completionnet_celeba.t7"


FAILURES = {  # what is different, where the mirror is, and what is said
    "offline": ({}, "http://127.0.0.1:1/", "no connection"),
    "moved": ({}, "{web}elsewhere/", "404 File not found"),
    "other hash": ({"digest": Digest("sha1", "0" * 40)}, "{web}", "gives another file (SHA1 "),
    "other layout": ({"file": "text.keras"}, "{web}", "gave something else ("),
    "weights of others": (
        {"file": "gl_256x256_8x12_places_20200619-52a040a8.pth"},
        "{web}",
        "gave something else (it holds weights of mmagic (completion)",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_one_line_and_leaves_nothing(name, web, cache, monkeypatch):
    fields, mirror, message = FAILURES[name]
    change(monkeypatch, "places2", **fields)
    with pytest.raises(UserError) as error:
        model_names.path_of("places2", "--model", mirror.format(web=web))
    text = str(error.value)
    assert message in text and "\n" not in text and listed(cache) == []
    assert "try again later, set GLCIC_MODELS_URL to" in text and "or get it elsewhere: glcic convert --input" in text


def test_a_file_with_the_right_hash_is_verified(files, web, monkeypatch, capsys):
    content = (files / model_names._PUBLISHED["places2"].file).read_bytes()
    change(monkeypatch, "places2", digest=Digest("sha256", hashlib.sha256(content).hexdigest()[:8]))
    assert model_names.path_of("places2", mirror=web).is_file()
    assert "unverified" not in capsys.readouterr().err


def test_a_place_that_cannot_be_written_and_no_home(web, cache, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match="cannot be created"):
        model_names.path_of("celeba", mirror=web)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache"))
    with pytest.raises(UserError, match="there is no home folder to keep models in; set XDG_CACHE_HOME"):
        model_names.path_of("celeba", mirror=web)
    with pytest.raises(UserError, match="~nobody-here/a.keras: there is no home folder for ~ to stand for"):
        model_names.path_of("~nobody-here/a.keras")
    assert model_downloads.cached() == {} and listed(tmp_path) == ["cache"]


def test_two_at_once_download_once(web, cache, asked, monkeypatch):
    monkeypatch.setenv(model_downloads.MIRROR, web)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(model_names.path_of("celeba"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cache / "celeba.keras"] * 3 and len(asked) == 1


class Flags:
    download, remove, mirror = [], [], None


@pytest.fixture
def command(monkeypatch, capsys):
    """A function of flags that does `glcic models` and returns its lines."""

    def do(**given):
        values = type("Given", (Flags,), given)
        monkeypatch.setattr(models_command.flags, "FLAGS", values)
        capsys.readouterr()
        models_command.run_models()
        return capsys.readouterr().out.splitlines()

    return do


def test_the_command(command, web, cache):
    before = command()
    assert before[0].split() == ["name", "where", "MB"] and before[1].startswith("scenes            package")
    assert any(line.startswith("celeba            on the web      47") and "CC BY-NC-SA 4.0" in line for line in before)
    assert command(download=["celeba", "ours", "scenes"], mirror=web) == [
        f"celeba: {cache / 'celeba.keras'}",
        f"ours: {cache / 'ours.keras'}",
        f"scenes: {DEFAULT_MODEL}",
    ]
    kept = command()
    assert any(line.startswith("celeba            downloaded ") for line in kept) and kept[-1].endswith("from a mirror")
    assert command(remove=["celeba", "ours"]) == ["celeba: removed, 0 MB", "ours: removed, 0 MB"]
    assert command() == before and listed(cache) == []
    for name, found in (("celeba", "was not"), ("scenes", "is part of the package"), ("../celeba", "is not the name")):
        with pytest.raises(UserError, match=f"--remove={name}: {found}.*; `glcic models` lists the networks that were"):
            command(remove=[name])
    with pytest.raises(UserError, match="--mirror: "):
        command(mirror=web)


KILLED = """
import os, sys
from glcic_tf.common import downloads
write = downloads._write
def halfway(response, part, have, total, *more):
    part.write_bytes(next(response.iter_content(2000)))
    print("half", flush=True)
    import time; time.sleep(600)
downloads._write = halfway
from glcic_tf.convert import model_names
model_names.path_of("celeba")
"""


def test_one_that_was_killed_is_no_hindrance(web, cache, asked, tmp_path, monkeypatch):
    """Its lock is free, and what it left is gone on with."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), model_downloads.MIRROR: web}
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    process.stdout.close()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "glcic_tf")
    folder = tmp_path / "glcic_tf" / "models"
    (part,) = listed(folder)
    assert part.startswith("completionnet_celeba.t7.") and part.endswith(".part")
    assert model_downloads.cached() == {}
    start = time.monotonic()
    model_names.path_of("celeba", mirror=web)
    assert listed(folder) == ["celeba.keras"] and time.monotonic() - start < 300
