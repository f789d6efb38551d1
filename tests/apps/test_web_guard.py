"""What stands before the pages: names, origins, tokens, paths of a proxy, slow clients, quotas; real requests."""

import contextlib
import http.client
import json
import os
import resource
import socket
import threading
import time

import pytest

from glcic_tf.apps import listening, web_guard, web_server
from glcic_tf.apps.page import temporary_files
from glcic_tf.apps.quota import Quota
from glcic_tf.common.errors import UserError

TOKEN = "a secret token"


async def application(scope, receive, send):
    """Tells its path; /bug fails, /cors lets everybody read, /slow sends much."""
    if scope["path"].endswith("/bug"):
        raise KeyError("oh")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"access-control-allow-origin", b"*"), (b"Access-Control-Allow-Credentials", b"true")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    told = json.dumps([scope["path"], scope["root_path"], len(body)]).encode()
    await send({"type": "http.response.body", "body": bytes(30_000_000) if scope["path"] == "/slow" else told})


@contextlib.contextmanager
def serving(**options):
    with listening.listen("127.0.0.1", 0) as listener:
        guarded = web_guard.Guard(application, web_guard.access("127.0.0.1", listener, **options))
        running = web_server.server(guarded)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        serving.state = running.server_state
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port():
    with serving() as port:
        yield port


def ask(port, path="/", method="GET", body=None, **headers):
    """(Status, headers, body) of an answer; a Host that is given replaces the right one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("LocalHost", 200),
        ("127.0.0.1:{port}", 200),
        ("127.9.9.9", 200),
        ("[::1]:80", 200),
        ("localhost.", 200),
        ("evil.example:{port}", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.7", 421),
        ("user@localhost", 421),
        ("localhost:port", 421),
        ("[::1", 421),
        ("", 421),
        (None, 400),
    ],
)
def test_only_names_that_are_served_are_answered(port, host, status):
    # h11 refuses what HTTP/1.1 forbids before the application is asked.
    found, headers, body = ask(port, Host=host and host.format(port=port))
    assert found == status or (status == 421 and found == 400)
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://localhost:{port}", "Host": "localhost:{port}"}, 200),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://127.0.0.1:{port}"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"X_Forwarded_Host": "evil.example"}, 421),
        ({"X_Forwarded_Host": "localhost"}, 200),
    ],
)
def test_pages_of_others_may_not_send(port, headers, status):
    headers = {name: value.format(port=port) for name, value in headers.items()}
    assert ask(port, "/", "POST", b"{}", **headers)[0] == status


def test_nobody_is_told_before_the_request_what_others_may_send(port):
    status, headers, _ = ask(port, "/", "OPTIONS", Access_Control_Request_Method="POST")
    assert status == 405 and "Access-Control-Allow-Origin" not in headers


def test_a_bug_is_one_line_and_tells_nothing(port, capsys):
    status, _, body = ask(port, "/bug")
    assert status == 500 and set(json.loads(body).values()) == {"Something went wrong here."}
    assert capsys.readouterr().err.count("\n") == 1


def test_names_of_a_proxy(capsys):
    with serving(allowed_hosts=["photos.example"], root_path="/glcic/") as port:
        assert ask(port, Host="photos.example")[0] == 200
        assert ask(port, "/", "POST", b"", Host="127.0.0.1", Origin="https://photos.example")[0] == 200
        assert (
            ask(
                port, "/", "POST", b"", Host="127.0.0.1", X_Forwarded_Host="photos.example", Origin="https://a.example"
            )[0]
            == 403
        )
        for path, told in (
            ("/a", "/glcic/a"),
            ("/glcic/a", "/glcic/a"),
            ("/glcica", "/glcic/glcica"),
            ("/", "/glcic/"),
        ):
            assert json.loads(ask(port, path)[2]) == [told, "/glcic", 0]
    with serving(allowed_hosts=["*"]) as port:
        assert ask(port, Host="anything.example")[0] == 200


def test_token():
    with serving(token=TOKEN) as port:
        assert ask(port)[0] == 401
        assert ask(port, "/?token=wrong")[0] == ask(port, Cookie="glcic_token=wrong")[0] == 401
        assert ask(port, Authorization="Bearer wr\u00f6ng")[0] == 401
        assert ask(port, Authorization=f"Bearer {TOKEN}")[0] == 200
        status, headers, _ = ask(port, "//evil.example/?a=1&token=a%20secret+token&b=2")
        assert (status, headers["Location"]) == (303, "/evil.example/?a=1&b=2")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower() and TOKEN not in cookie
        assert ask(port, Cookie=f"other=1; {cookie.split(';')[0]}")[0] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "short"}, "--token: has 5 characters"),
        ({"token": ""}, "--token: has 0 characters"),
        ({"root_path": "glcic"}, "--root_path=glcic: expected a path"),
        ({"root_path": "/a?b"}, "--root_path"),
        ({"allowed_hosts": ["https://a.example"]}, "--allowed_hosts=https://a.example"),
        ({"allowed_hosts": ["a.example:80"]}, "--allowed_hosts"),
    ],
)
def test_wrong_flags_are_one_line(options, message):
    with listening.listen("127.0.0.1", 0) as listener, pytest.raises(UserError, match=message.replace("?", r"\?")):
        web_guard.access("127.0.0.1", listener, **options)


def test_a_random_token_is_in_the_address_that_is_told():
    with listening.listen("127.0.0.1", 0) as listener:
        access = web_guard.access("127.0.0.1", listener, token=web_guard.RANDOM_TOKEN)
    assert len(access.token) >= 20 and access.url("http://a/") == f"http://a/?token={access.token}"


def test_where_all_machines_are_let_in_any_number_is_a_name():
    with listening.listen("0.0.0.0", 0) as listener:
        access = web_guard.access("0.0.0.0", listener)
    assert (
        access.is_ours("192.0.2.7:80") and access.is_ours(socket.gethostname()) and not access.is_ours("evil.example")
    )


@pytest.fixture
def impatient(monkeypatch):
    """Bounds of the server in tenths of a second."""
    for name, value in {"REQUEST_S": 0.3, "STALL_S": 0.3, "_CHECK_S": 0.1}.items():
        monkeypatch.setattr(web_server, name, value)


def is_cut(connection):
    connection.settimeout(30)
    try:
        while connection.recv(2**20):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-a: ",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc",
        b"GET /slow HTTP/1.1\r\nHost: localhost\r\nAccept",
    ],
)
def test_requests_that_never_end_are_cut(impatient, sent):
    with serving() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        assert is_cut(connection)


def test_a_body_that_is_no_body_is_cut_where_no_answer_may_say_so(caplog):
    request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n--b\r\n"
    with serving() as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        with contextlib.suppress(ConnectionError):
            while connection.recv(2**16):
                pass
        assert ask(port)[0] == 200
    assert "Traceback" not in caplog.text and not [record for record in caplog.records if record.exc_info]


def test_who_does_not_read_is_cut(impatient):
    with serving() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # The answer does not fit into what the system keeps.
        while not serving.state.connections:
            time.sleep(0.01)
        while serving.state.connections:
            time.sleep(0.01)
        received = 0
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(2**20):
                received += len(chunk)
    assert received < 30_000_000


def test_more_half_sent_requests_than_connections_do_not_stop_it(monkeypatch):
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 20)
    with serving() as port, contextlib.ExitStack() as opened:
        half_sent = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for connection in half_sent:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert ask(port)[0] == 200
        assert all(map(is_cut, half_sent[:60]))


def test_quota(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    quota = Quota(max_bytes=100, each_bytes=60, keep_s=10)
    assert quota.take("a", 60) is None and quota.take("a", 1) == "each" and quota.take("b", 41) == "all"
    assert quota.take("b", 40) is None
    now[0] = 11
    assert quota.take("a", 60) is None and quota.take("c", 40) is None and quota.take("d", 1) == "all"


def test_folders_of_pages_that_were_killed_are_deleted_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary_files.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "glcic-app-killed"
    left.mkdir()
    (left / ".lock").touch()
    (left / "upload").write_bytes(bytes(1000))
    (tmp_path / "glcic-app-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with temporary_files.own_folder() as first:
        assert not left.exists() and (tmp_path / "elsewhere").exists()
        with temporary_files.own_folder() as second:  # another page, at the same time
            assert os.path.isdir(first) and first != second
        assert os.path.isdir(first) and not os.path.isdir(second)
    assert not os.path.isdir(first)


def test_a_full_folder_has_no_room_until_it_is_swept(tmp_path):
    folder = temporary_files.Folder(tmp_path, uploads_s=1000, own_s=1000, max_bytes=1500)
    (folder.new() / "a").write_bytes(bytes(1000))
    (folder.new() / "b").write_bytes(bytes(1000))
    folder._swept = -1e9
    with pytest.raises(UserError, match="no room"):
        folder.new()
    folder._swept = -1e9
    folder._ages = dict.fromkeys(folder._ages, -1)
    assert folder.has_room()


def test_connections_leave_files_to_open(monkeypatch):
    for soft, most in ((1024, 512), (100, 50), (10, 8), (2**20, 512), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert web_server.max_connections() == most
