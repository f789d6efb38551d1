"""study.server: participants over HTTP with reloads and crashes; nothing told before its time; hostile requests."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from study_helpers import PROTOCOL, ROOT, Browser, make_photos, serving

from glcic_tf.apps.study import answers, manifest, study_server
from glcic_tf.apps.study.picture_set import prepare
from glcic_tf.apps.study.study_report import report
from glcic_tf.common.errors import UserError


def make_study(folder):
    photos = make_photos(folder / "photos", 10)
    return prepare(photos, folder / "study", PROTOCOL, (), ("telea", "mean_colour"), items=8, practice=2)


@pytest.fixture
def study(tmp_path):
    return tmp_path / "study", make_study(tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server whose participants other tests do not count: (port, study)."""
    folder = tmp_path_factory.mktemp("running")
    made = make_study(folder)
    with serving(folder / "study", "--display_ms=700") as port:
        yield port, made


def test_two_participants_with_a_reload_and_a_crash_and_a_third_who_leaves(study, tmp_path):
    folder, made = study
    items = made.all_items()
    real = [item.id for item in made.items if item.kind == "real"]
    mean_colour = [item.id for item in made.items if item.method == "mean_colour"]
    telea = [item.id for item in made.items if item.method == "telea"]
    natural = {
        "Ann": {*real, *telea},  # takes Telea's for real
        "Ben": {*real[:2], *telea, mean_colour[0]},
    }
    seen = {"Ann": [], "Ben": []}

    def take(browser, name, count):
        for _ in range(count):
            id = browser.state()["id"]
            assert browser.send(f"/picture/{id}.png")[2] == (folder / "pictures" / f"{id}.png").read_bytes()
            state = browser.answer(id, id in natural[name], 1000 if name == "Ann" else 3000)
            assert state["counted"] and ("feedback" in state) == (id in {i.id for i in made.practice})
            seen[name].append(id)

    with serving(folder) as port:
        ann, ben, cy = Browser(port), Browser(port), Browser(port)
        assert ann.state() == {"stage": "join"}
        for browser, name in ((ann, "Ann"), (ben, "Ben"), (cy, "Cy")):
            state = browser.join(name)
            assert (state["stage"], state["practice"], state["items"], state["done"]) == ("practice", 2, 8, 0)
        take(ann, "Ann", 4)
        take(ben, "Ben", 5)
        before = ann.state()
        ann = Browser(port, ann.cookie)  # a reload, or a second tab
        assert ann.state() == before == ann.join("Ann")
        assert (before["stage"], before["done"], before["practised"]) == ("items", 2, 2)
        take(ann, "Ann", 1)
        for _ in range(3):
            cy.answer(cy.state()["id"], True, 2000)
        ben_before, cy_item = ben.state(), made.order(3)[2]
    with serving(folder) as port:  # the server was killed
        ann, ben = Browser(port, ann.cookie), Browser(port, ben.cookie)
        assert ben.state() == ben_before
        assert ann.state()["done"] == 3
        last = seen["Ann"][-1]
        state = ann.answer(last, last not in natural["Ann"])  # the other key, late
        assert not state["counted"] and state["done"] == 3
        with ThreadPoolExecutor(2) as pool:  # both at once
            list(pool.map(lambda one: take(*one), [(ann, "Ann", 5), (ben, "Ben", 5)]))
        assert (ann.state()["stage"], ann.state()["id"]) == (ben.state()["stage"], None) == ("done", None)
        assert (ann.state()["right"], ben.state()["right"]) == (6, 3)
        result = report(folder, tmp_path / "report")  # while it goes on

    for name, number in (("Ann", 1), ("Ben", 2)):
        assert seen[name] == [item.id for item in made.order(number)]
    # By hand: Ann and Ben gave 4 + 2 naturals to 8 real pictures, 2 + 2 of 4 to Telea's, 0 + 1 of 4 to mean_colour's;
    # Cy one to a single picture.
    cy_is = items[cy_item.id].method or "real"
    expected = {"real": [6, 8], "telea": [4, 4], "mean_colour": [1, 4]}
    expected[cy_is] = [count + 1 for count in expected[cy_is]]
    assert {name: [s["count"], s["n"]] for name, s in result["judged_real"].items()} == expected
    assert (result["participants"], result["finished"], result["answers"]) == (3, 2, 17)
    assert [result["by_participant"][n]["right"]["count"] for n in "12"] == [6, 3]
    assert [result["by_participant"][n]["median_ms"] for n in "123"] == [1000, 3000, 2000]


def test_nothing_but_ids_is_told_before_the_end(running):
    port, made = running
    browser = Browser(port)
    told = [browser.send(path)[2] for path in ("/", "/api/state")]
    browser.join("Curious")
    practice = {item.id: item for item in made.practice}
    headers = []
    for _ in range(9):
        id = browser.state()["id"]
        _, head, _ = browser.send(f"/picture/{id}.png")
        headers.append({name: value for name, value in head.items() if name.lower() != "date"})
        state = browser.answer(id, True)
        assert state.pop("feedback", None) == ({"kind": practice[id].kind} if id in practice else None)
        assert state["display_ms"] == 700 and "right" not in state
        told.append(json.dumps(state).encode())
    assert all(head == headers[0] for head in headers)  # no time, no length of its own
    page, *others = told
    assert b"Natural" in page
    for text in others:
        assert not any(word in text for word in (b"real", b"telea", b"mean_colour", b"completed", b"png", b"kind"))


def test_pictures_come_only_when_it_is_their_turn_and_nothing_else_comes(running):
    port, made = running
    browser = Browser(port)
    first = made.practice[0].id
    assert browser.send(f"/picture/{first}.png")[0] == 401
    browser.join("Turn")
    status, headers, data = browser.send(f"/picture/{first}.png")
    assert (status, headers["Content-Type"], data[:4]) == (200, "image/png", b"\x89PNG")
    assert browser.send(f"/picture/{made.practice[1].id}.png")[0] == 404
    for path in ("../study.json", "..%2fstudy.json", "%2e%2e/study.json", "%00", "x" * 3000, "/etc/passwd", "%ff"):
        for prefix in ("/picture/", "/"):
            status, _, data = browser.send(prefix + path)
            assert status in (400, 404) and b"seed" not in data and b"root:" not in data
    for path in ("/study.json", "/answers.sqlite", "/pictures/", f"/pictures/{first}.png", "/docs", "/openapi.json"):
        assert browser.send(path)[0] == 404


def test_cookie_and_headers(running):
    port, _ = running
    browser = Browser(port)
    status, headers, _ = browser.send("/api/join", {"name": "Crumb"})
    cookie = headers["Set-Cookie"].lower()
    assert status == 200 and "httponly" in cookie and "samesite=strict" in cookie
    other = Browser(port)
    other.join("Other crumb")
    assert other.cookie != browser.cookie and len(browser.cookie) > 30
    _, headers, page = browser.send("/")
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert b"http://" not in page and b"https://" not in page and b"//cdn" not in page
    assert Browser(port, "study=forged").state() == {"stage": "join"}


def test_names_are_bounded_and_taken_once(running):
    port, _ = running
    for name in ("", "  ", "x" * 41, "bell\x07", 7, None, ["a"], "\u202etxet"):
        status, _, data = Browser(port).send("/api/join", {"name": name})
        assert status == 400 and "1 to 40 characters" in json.loads(data)["error"]
    first = Browser(port)
    assert first.join("  Zoë \t <b>7</b> ")["name"] == "Zoë <b>7</b>"
    status, headers, data = Browser(port).send("/api/join", {"name": "Zoë <b>7</b>"})
    assert status == 409 and "Somebody has this name" in json.loads(data)["error"] and "Set-Cookie" not in headers
    assert first.join("Another")["name"] == "Zoë <b>7</b>"  # a second tab stays the same participant


def test_bad_answers_change_nothing(running):
    port, made = running
    assert Browser(port).send("/api/answer", {"id": made.practice[0].id, "natural": True, "ms": 1})[0] == 401
    browser = Browser(port)
    id = browser.join("Bad answers")["id"]
    good = {"id": id, "natural": True, "ms": 1}
    bad = [good | change for change in ({"id": "x"}, {"id": 3}, {"id": [1]}, {"natural": 1}, {"natural": None})]
    bad += [good | change for change in ({"ms": "1"}, {"ms": True}, {"ms": [1]})]
    bad += [{}, [], b"", b"{", b"\xff", b"[" * 2000]
    for body in bad:
        assert browser.send("/api/answer", body)[0] == 400, body
    assert browser.send("/api/answer", b" " * 3000)[0] == 413
    assert browser.send("/api/answer", good, "text/plain")[0] == 415  # what another site's form could send
    assert browser.send("/api/answer")[0] == 405
    later = made.practice[1].id
    state = browser.answer(later, True)  # out of turn
    assert not state["counted"] and "feedback" not in state and state["id"] == id
    assert browser.state()["practised"] == 0


def test_response_times_are_bounded(study):
    folder, made = study
    store = answers.Answers(folder, made)
    number, _ = store.participant(store.join("Slow"))
    store.close()
    assert number == 1
    with serving(folder) as port:
        browser = Browser(port)
        browser.join("Odd clock")
        for text in ("-5", "1e999", "9" * 1500, "NaN", "null", "12.25"):
            id = browser.state()["id"]
            body = f'{{"id": "{id}", "natural": true, "ms": {text}}}'.encode()
            assert json.loads(browser.send("/api/answer", body)[2])["counted"]
    _, rows = answers.read(folder)
    assert [row[3] for row in rows] == [0, 600_000, 600_000, None, None, 12.25]


def test_the_same_answer_many_times_at_once_counts_once(study):
    folder, made = study
    with serving(folder) as port:
        browser = Browser(port)
        id = browser.join("Ann")["id"]
        with ThreadPoolExecutor(8) as pool:
            states = list(
                pool.map(lambda natural: Browser(port, browser.cookie).answer(id, natural), [True, False] * 8)
            )
    assert sum(state["counted"] for state in states) == 1
    assert {state["practised"] for state in states} == {1}
    _, rows = answers.read(folder)
    assert len(rows) == 1 and rows[0][2] in (True, False)


def test_twenty_participants_at_once(study):
    folder, made = study
    with serving(folder) as port:

        def take(name):
            browser = Browser(port)
            state = browser.join(name)
            while state["stage"] != "done":
                state = browser.answer(state["id"], True)
            return state["right"]

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(take, map(str, range(20)))) == [4] * 20
    participants, rows = answers.read(folder)
    assert participants == list(range(1, 21)) and len(rows) == 20 * 10


def test_answers_of_another_study_or_a_damaged_file_are_refused(study, tmp_path):
    folder, made = study
    answers.Answers(folder, made).close()
    answers.Answers(folder, made).close()  # again, and nothing changes
    content = json.loads((folder / manifest.FILE).read_text())
    gone = content["items"].pop()
    (folder / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"answers\.sqlite: holds answers to another study"):
        study_server.app(folder)
    content["items"].append(gone)
    (folder / manifest.FILE).write_text(json.dumps(content))
    for path in folder.glob("answers.sqlite*"):
        path.unlink()
    (folder / "answers.sqlite").write_bytes(b"no database" * 100)
    for use in (study_server.app, answers.read):
        with pytest.raises(UserError, match=r"answers\.sqlite: cannot be used"):
            use(folder)


def test_full_study_says_so(study, monkeypatch):
    folder, made = study
    monkeypatch.setattr(answers, "MAX_PARTICIPANTS", 2)
    store = answers.Answers(folder, made)
    assert store.join("a") and store.join("b") and store.participant("nobody") is None
    with pytest.raises(OverflowError):
        store.join("c")
    with pytest.raises(sqlite3.IntegrityError):
        store.add(99, made.items[0].id, True, None)  # no such participant
    assert store.add(1, made.items[0].id, True, None)  # and the lock is free
    store.close()


def test_no_study_and_bad_addresses_are_one_line_each(study, tmp_path):
    folder, _ = study
    with pytest.raises(UserError, match="holds no study.json"):
        study_server.serve(tmp_path / "nothing")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--host=127.0.0.1, --port={port}: cannot be listened on \(Address"):
            study_server.serve(folder, port=port)
        command = [sys.executable, "-m", "glcic_tf", "study", "serve", f"--study={folder}", f"--port={port}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("glcic study serve: --host") and done.stderr.count("\n") == 1
    for host in ("no.such.host.invalid", "x" * 100, "192.0.2.1"):
        with pytest.raises(UserError, match="cannot be listened on"):
            study_server.serve(folder, host, 0)


def test_ctrl_c_is_how_it_ends(study):
    folder, _ = study
    command = [sys.executable, "-m", "glcic_tf", "study", "serve", f"--study={folder}", "--port=0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    browser = Browser(int(process.stdout.readline().split(":")[2].split("/")[0]))
    browser.join("Ann")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "what was answered is kept" in out
    assert answers.read(folder)[0] == [1]
