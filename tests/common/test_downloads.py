"""Downloads from a server on loopback, with each thing that can go wrong."""

import errno
import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from glcic_tf.common import downloads
from glcic_tf.common.downloads import Digest, DownloadFailed
from glcic_tf.common.errors import UserError

CONTENT = bytes(range(256)) * 1000 + b"end"
BLOCK = 2**16  # what is written at once
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A server of one file: `behaviour` says how it does that, `asked` lists the Range headers that came."""
    behaviour = SimpleNamespace(
        status=200, etag='"1"', ranges=True, breaks=[], length=None, content=CONTENT, wrong_range=False
    )
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            b, start = behaviour, 0
            asked.append(self.headers.get("Range"))
            part = self.headers.get("Range") and b.ranges and self.headers.get("If-Range") == b.etag
            if part:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if part else b.status)
            if b.etag:
                self.send_header("ETag", b.etag)
            if part:
                first = 0 if b.wrong_range else start
                self.send_header("Content-Range", f"bytes {first}-{len(b.content) - 1}/{len(b.content)}")
            if b.length != "none":
                self.send_header("Content-Length", str(b.length or len(b.content) - start))
            self.end_headers()
            end = b.breaks.pop(0) if b.breaks else len(b.content)
            self.wfile.write(b.content[start:end])
            self.wfile.flush()

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{served.server_port}/file", behaviour=behaviour, asked=asked)
    served.shutdown()
    thread.join()
    served.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupted(server, target):
    """Leave the first bytes of a download, as one does that was killed."""
    server.behaviour.breaks = [BLOCK] * 3
    with pytest.raises(DownloadFailed, match="broke off"):
        downloads.fetch(server.url, target, 10**6)
    (part,) = target.parent.iterdir()
    assert part.name.endswith(".part") and part.read_bytes() == CONTENT[:BLOCK]
    server.asked.clear()


@pytest.mark.parametrize("digest", [None, Digest("sha256", SHA256[:8]), Digest("sha256", SHA256)])
def test_a_file_comes_whole(server, tmp_path, digest):
    downloads.fetch(server.url, tmp_path / "file", 10**6, digest)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None]


def test_it_goes_on_where_it_stopped(server, tmp_path):
    interrupted(server, tmp_path / "file")
    downloads.fetch(server.url, tmp_path / "file", 10**6, Digest("sha256", SHA256))
    assert server.asked == [None, f"bytes={BLOCK}-"]
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == CONTENT


def test_it_goes_on_by_itself_as_long_as_more_comes(server, tmp_path):
    server.behaviour.breaks = [BLOCK, BLOCK, 2 * BLOCK, 2 * BLOCK]
    downloads.fetch(server.url, tmp_path / "file", 10**6)
    assert server.asked == [None, None, f"bytes={BLOCK}-", None, f"bytes={2 * BLOCK}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("change", [{"etag": '"2"'}, {"etag": None}, {"ranges": False}, {"wrong_range": True}])
def test_what_may_be_another_file_begins_anew(server, tmp_path, change):
    other = CONTENT[::-1]
    interrupted(server, tmp_path / "file")
    server.behaviour.content = other
    for name, value in change.items():
        setattr(server.behaviour, name, value)
    downloads.fetch(server.url, tmp_path / "file", 10**6)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 404}, "404 Not Found"),
        ({"status": 503}, "503 Service Unavailable"),
        ({"content": CONTENT[1:]}, "gives another file .SHA256 "),
        ({"content": b""}, "gives another file .SHA256 "),
        ({"length": 2 * 10**6}, "has 2000000 bytes, more than 1000000"),
        ({"length": len(CONTENT) + 1}, "broke off"),
        ({"length": "none", "content": bytes(10**6 + 1)}, "gives another file"),
    ],
)
def test_what_fails_leaves_nothing_but_what_is_gone_on_with(server, tmp_path, change, message):
    for name, value in change.items():
        setattr(server.behaviour, name, value)
    with pytest.raises(DownloadFailed, match=message) as error:
        downloads.fetch(server.url, tmp_path / "file", 10**6, Digest("sha256", SHA256))
    assert "\n" not in str(error.value)
    assert [name for name in names(tmp_path) if not name.endswith(".part")] == []
    assert bool(names(tmp_path)) == (message == "broke off")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/file", "no connection"),
        ("file:///etc/hostname", "No connection adapters"),
        ("no url", "Failed to parse"),
    ],
)
def test_addresses_that_do_not_answer(tmp_path, url, message):
    with pytest.raises(DownloadFailed, match=message):
        downloads.fetch(url, tmp_path / "file", 10**6)
    assert names(tmp_path) == []


def test_a_full_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"cannot be written \(0 MB do not fit on its disk\); make room"):
        downloads.fetch(server.url, tmp_path / "file", 10**6)
    monkeypatch.undo()

    def write(*_):
        next(tmp_path.iterdir(), tmp_path / "x").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "_write", write)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room"):
        downloads.fetch(server.url, tmp_path / "file", 10**6)
    monkeypatch.undo()
    assert [name for name in names(tmp_path) if name != "x"] == []
