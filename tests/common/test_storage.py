"""Files behind URLs, as paths and as what is read and written: fsspec's memory, and a web server on loopback."""

import http.server
import pickle
import sys
from pathlib import Path

import pytest

from glcic_tf.common import file_systems, storage
from glcic_tf.common.errors import UserError, without_secrets
from glcic_tf.common.remote_path import RemotePath
from tests.common.web_server import serving

CONTENT = {"a.jpg": b"first", "ö #1.jpg": b"second", "sub dir/b.jpg": b"third", "sub dir/.c.jpg": b"", ".d/e.jpg": b""}
SEEN = {"": ["a.jpg", "ö #1.jpg"], "sub dir/": ["b.jpg"]}


@pytest.fixture
def folder(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path / "in"


@pytest.fixture
def web(folder):
    with serving(folder.parent) as served:
        yield served


@pytest.fixture(params=["memory", "web", "web without a slash", "tensorflow"])
def url(request, folder, tmp_path):
    if request.param == "tensorflow":
        return f"file://{folder}/"
    if request.param == "memory":
        request.getfixturevalue("memory").put(str(folder), "/bucket/in", recursive=True)
        return "memory://bucket/in"
    return request.getfixturevalue("web")[0] + ("/in" if "without" in request.param else "/in/")


def walked(folder):
    return {relative: sorted(names) for relative, _, names in storage.walk(folder)}


# Names.


@pytest.mark.parametrize(
    ("url", "name", "child", "parent", "shown"),
    [
        ("s3://bucket/a/b c.tar.PNG", "b c.tar.PNG", "s3://bucket/a/b c.tar.PNG/x y#", "s3://bucket/a", None),
        ("s3://bucket/", "bucket", "s3://bucket/x y#", "s3://bucket/", None),
        ("https://h:1/a%20b/c%23.png", "c#.png", "https://h:1/a%20b/c%23.png/x%20y%23", "https://h:1/a%20b", None),
        (
            "https://me:se@cret@h/a.png?sig=1&x=y",
            "a.png",
            "https://me:se@cret@h/a.png/x%20y%23?sig=1&x=y",
            "https://me:se@cret@h?sig=1&x=y",
            "https://h/a.png",
        ),
        ("memory://a", "a", "memory://a/x y#", "memory://a", None),
    ],
)
def test_names(url, name, child, parent, shown):
    path = RemotePath(url)
    assert (path.name, path.stem + path.suffix, str(path)) == (name, name, shown or url)
    assert (path / "x y#").url == child and (path / "x y#").name == "x y#" and path.parent.url == parent
    assert path / "x" / "y" == path / "x/y" == path / Path("x/y") and (path / "x/y").relative_to(path) == Path("x/y")
    assert path / "x" != path / "X" and path / "a" < path / "b" and (path / "x").is_relative_to(path)
    assert not path.is_relative_to(path / "x") and not (path / "xy").is_relative_to(path / "x")
    assert not path.is_relative_to(Path("/")) and not storage.is_inside("/", path) and storage.is_same(url, path)
    assert pickle.loads(pickle.dumps(path)).url == url and {path: 1}[RemotePath(url)] == 1
    with pytest.raises(TypeError):
        open(path)  # noqa: SIM115


def test_order_is_that_of_paths():
    names = ["b.jpg", "a/x.jpg", "a b/x.jpg", "a.jpg", "a/b/c.jpg", "A.jpg"]
    urls = sorted(RemotePath("https://host/photos/") / name for name in names)
    assert [url.relative_to(RemotePath("https://host/photos")) for url in urls] == sorted(map(Path, names))


def test_secrets_are_not_in_messages():
    assert without_secrets("https://me:secret@host/a@b") == "https://host/a@b"
    said = "(403, url='https://me:p@ss@host/a.png?X-Sig=abc&d=1') of s3://b/c and a@b? yes"
    assert without_secrets(said) == "(403, url='https://host/a.png') of s3://b/c and a@b? yes"


def test_chains_of_urls_are_refused():
    with pytest.raises(UserError, match="^zip://a.png::file:///etc/x.zip: is a chain of URLs; expected one URL"):
        storage.exists("zip://a.png::file:///etc/x.zip")


# Reading.


def test_folders_and_files(url, folder):
    assert walked(url) == walked(folder) == SEEN
    assert storage.is_folder(url) and storage.exists(url)
    file = storage.join(url, "ö #1.jpg")
    assert storage.exists(file) and not storage.is_folder(file) and storage.size(file) == 6
    missing = storage.join(url, "none.jpg")
    assert not storage.exists(missing) and not storage.is_folder(missing)
    assert {"a.jpg", "sub dir"} <= set(storage.files(url))
    assert storage.existing([file, missing], storage.as_path(url)) == {file}
    for start, length, expected in (
        (0, 3, b"sec"),
        (2, 3, b"con"),
        (4, 9, b"nd"),
        (6, 1, b""),
        (2, 0, b""),
    ):
        assert storage.read(file, start, length) == expected
    with storage.local(file) as path:
        assert path.read_bytes() == b"second"
    assert not path.parent.exists()
    with (
        pytest.raises(UserError, match="^.*none.jpg: cannot be read .*; see that the URL is right"),
        storage.local(missing),
    ):
        pass


def test_a_url_stands_in_messages_in_place_of_a_copy(url):
    file = storage.join(url, "a.jpg")
    with pytest.raises(UserError) as raised, storage.local(file) as path:
        raise UserError(f"{path}: is broken; see {path}.")
    assert str(raised.value) == f"{file}: is broken; see {file}."


def test_a_file_is_bounded(url, monkeypatch):
    monkeypatch.setattr(storage, "_MAX_FILE_BYTES", 4)
    file = storage.join(url, "a.jpg")
    with pytest.raises(UserError, match="a.jpg: has 5 bytes; expected a file of at most 4"), storage.local(file):
        pass


@pytest.mark.parametrize("length", [None, 4])  # as the storage says
def test_lengths_that_are_not_true_are_bounded_too(length, tmp_path, folder):
    with (
        open(folder / "a.jpg", "rb") as source,
        pytest.raises(UserError, match="x: has 5 bytes; expected a file of at"),
    ):
        file_systems.save("x", source, tmp_path / "out", length, 4)


def test_what_is_cut_short_is_not_a_file(tmp_path, folder):
    with open(folder / "a.jpg", "rb") as source, pytest.raises(OSError, match="gave 5 bytes instead of 6"):
        file_systems.save("x", source, tmp_path / "out", 6, 10)


def test_a_walk_is_bounded(web, monkeypatch):
    url, server = web
    monkeypatch.setattr(file_systems, "_MAX_DEPTH", 3)
    server.pages |= {"/in/" + "x/" * depth: b'<a href="x/">x</a>' for depth in range(9)}
    with pytest.raises(UserError, match="/in/: holds more than .* folders, .* names or 3 levels; name a part of it"):
        walked(url + "/in/")


# Web servers.


def test_links_of_a_page(web):
    url, server = web
    page = f"""<a href="../">up</a> <a href="?C=N;O=D">Name</a> <A HREF='a.jpg'>a</A> <a href="/in/sub%20dir/">s</a>
        <a href="{url}/in/%C3%B6%20%231.jpg">o</a> <a href="https://elsewhere.net/in/x.jpg">x</a> <a name="y">y</a>
        <a href="sub%20dir/b.jpg">deeper</a> <a href="/photos/z.jpg">z</a> <a href="//[">bad</a> <a href="../../q">"""
    server.pages["/in/"] = page.encode()
    assert walked(url + "/in") == SEEN


@pytest.mark.parametrize("link", ["%2e%2e%2fx.jpg", "..%2Fx.jpg", "a%00.jpg", "a::b.jpg", "%2e%2e%2f"])
def test_names_that_lead_out_of_a_folder_are_refused(web, link):
    url, server = web
    server.pages["/in/"] = f'<a href="a.jpg">a</a><a href="./{link}">b</a>'.encode()
    with pytest.raises(UserError, match="/in/: lists '.*', which is not a name of a file in it"):
        walked(url + "/in/")


def test_names_in_buckets_that_lead_out_are_refused(memory):
    memory.pipe("/bucket/in/a.jpg", b"")
    memory.store["/bucket/in/../x.jpg"] = memory.store["/bucket/in/a.jpg"]
    with pytest.raises(UserError, match=r"memory://bucket/in: lists '\.\.', which is not a name"):
        walked("memory://bucket/in")


def test_a_page_is_bounded(web, monkeypatch):
    monkeypatch.setattr("glcic_tf.common.web_folders._MAX_PAGE_BYTES", 50)
    with pytest.raises(UserError, match="/in/: its page has more than 50 bytes; name a part of it"):
        walked(web[0] + "/in/")


def test_passwords_are_sent_and_not_shown(web):
    url, server = web
    secret = url.replace("://", "://me:secret@") + "/in/none.jpg?sig=abc"
    with pytest.raises(UserError) as raised, storage.local(secret):
        pass
    assert server.requests == [("/in/none.jpg?sig=abc", "Basic bWU6c2VjcmV0")]  # once: what is not there stays away
    assert str(raised.value).startswith(f"{url}/in/none.jpg: cannot be read (there is nothing); see")


def test_a_server_that_does_not_give_parts(web):
    web[1].parts = False
    assert storage.read(f"{web[0]}/in/a.jpg", 0, 2) == b"fi"
    with pytest.raises(
        UserError, match="a.jpg: cannot be read .the server does not give parts of files; copy them here"
    ):
        storage.read(f"{web[0]}/in/a.jpg", 2, 2)


def test_a_refusal_is_tried_again(web, monkeypatch):
    url, server = web
    monkeypatch.setattr(storage, "_WAIT_SECONDS", 0)
    get, refusals = server.RequestHandlerClass.func.do_GET, [503, 500]

    def refusing(handler):
        return handler.send_error(refusals.pop()) if refusals else get(handler)

    monkeypatch.setattr(server.RequestHandlerClass.func, "do_GET", refusing)
    with storage.local(f"{url}/in/a.jpg") as path:
        assert path.read_bytes() == b"first"
    refusals[:] = [503] * 9
    with (
        pytest.raises(storage.UnreachableError, match=r"a.jpg: cannot be read \(503"),
        storage.local(f"{url}/in/a.jpg"),
    ):
        pass
    assert len(refusals) == 6


def test_a_host_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(storage, "_WAIT_SECONDS", 0)
    with http.server.HTTPServer(("127.0.0.1", 0), None) as server:
        port = server.server_port
    for ask in (storage.exists, storage.is_folder, storage.files):
        with pytest.raises(UserError, match=f"127.0.0.1:{port}/a: cannot be read .*; see that the URL is right"):
            ask(f"http://127.0.0.1:{port}/a")


# Writing.


def test_an_output_goes_to_a_url_when_all_went_well(memory):
    with (
        pytest.raises(UserError, match="^memory://b/a.png: is bad"),
        storage.local_output("memory://b/a.png", False) as p,
    ):
        p.write_bytes(b"half")
        raise UserError(f"{p}: is bad")
    assert not memory.store
    with storage.local_output("memory://b/a.png", False) as path:
        assert path.suffix == ".png"
        path.write_bytes(b"whole")
    assert memory.cat("/b/a.png") == b"whole"
    with (
        pytest.raises(UserError, match="memory://b/a.png: exists already; set"),
        storage.local_output("memory://b/a.png", 0),
    ):
        pass
    with storage.local_output("memory://b/a.png", True) as path:
        path.write_bytes(b"new")
    assert memory.cat("/b/a.png") == b"new"


def test_folders_that_are_replaced(memory):
    given = "a thing", "mark", {"mark", "x"}

    def replace(overwrite=False):
        with storage.replacing_folder("memory://b/c", overwrite, *given) as folder:
            for name in ("mark", "x"):
                (folder / name).write_text("hello")

    replace()
    assert sorted(memory.store) == ["/b/c/mark", "/b/c/x"]
    with pytest.raises(UserError, match="memory://b/c: exists already; add --overwrite"):
        replace()
    replace(overwrite=True)
    memory.pipe("/b/c/letter", b"")
    with pytest.raises(UserError, match="memory://b/c: holds letter, mark, x and is not a thing alone"):
        replace(overwrite=True)


def test_web_servers_are_not_written_to():
    with pytest.raises(UserError, match="^https://host/a: web servers are read from alone; name a folder"):
        storage.check_writable("https://me:secret@host/a")


# What is not installed.


@pytest.mark.parametrize(
    ("url", "missing", "said"),
    [
        ("memory://a", "fsspec.core", "the package fsspec is not installed; run: pip install 'glcic-tf"),
        ("https://a/b", "aiohttp", "the package aiohttp is not installed; run: pip install 'glcic-tf"),
        ("s3://a/b", "s3fs", r"a driver for s3:// is not installed \(Install s3fs to access S3\)"),
        ("nothing://a/b", "none", "nothing:// is not known; expected gs://, s3://, https:// and what"),
    ],
)
def test_packages_that_are_missing_are_named(url, missing, said, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"^{url}: {said}"):
        storage.exists(url)


@pytest.mark.parametrize("kind", ["memory", "tensorflow"])
def test_an_upload_that_fails_leaves_what_was_there(kind, memory, tmp_path, monkeypatch):
    url = "memory://bucket/a.png" if kind == "memory" else f"file://{tmp_path}/to/a.png"
    for name, content in (("old", b"old"), ("new", b"new")):
        (tmp_path / name).write_bytes(content)
    storage.upload(tmp_path / "old", url)

    def broken(*_, **__):
        raise OSError("the line is dead")

    if kind == "memory":
        monkeypatch.setattr(type(memory), "mv", broken)
    else:
        import tensorflow as tf

        monkeypatch.setattr(tf.io.gfile, "rename", broken)
    with pytest.raises(UserError, match="cannot be written"):
        storage.upload(tmp_path / "new", url)
    folder = url.rpartition("/")[0]
    assert storage.read(url, 0, 9) == b"old" and list(storage.files(folder)) == ["a.png"]


def test_what_lies_beyond_the_end_is_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert storage.read(f"file://{tmp_path}/a", 7, 2) == b""
