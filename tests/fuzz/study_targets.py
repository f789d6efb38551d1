"""A study with its answers."""

import shutil

from mutators import spoil, spoil_json


def make_study(folder):
    from study_helpers import PROTOCOL, make_photos

    from glcic_tf.apps.study import answers
    from glcic_tf.apps.study.picture_set import prepare

    study = prepare(make_photos(folder / "photos", 6), folder / "study", PROTOCOL, (), ("telea",), items=4, practice=1)
    store = answers.Answers(folder / "study", study)
    for name in ("Ann", "Ben"):
        number, _ = store.participant(store.join(name))
        for item in study.order(number)[: 3 + number]:
            store.add(number, item.id, number == 1, 500.0)
    store._db.execute("PRAGMA journal_mode = DELETE")
    store.close()
    return folder / "study"


def spoil_study(made, folder, rng):
    output = folder / "study"
    shutil.copytree(made, output)
    path = output / ("study.json" if rng.random() < 0.4 else "answers.sqlite")
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(path.read_bytes(), rng))
    return output


def read_study(output):
    import asyncio

    from glcic_tf.apps.study import study_report, study_server

    study_report.report(output, output.with_name("report"))
    application = study_server.app(output)
    for token in (None, "unknown"):
        asyncio.run(_ask(application, "/api/state", token))
    asyncio.run(_ask(application, "/api/join", None, b'{"name": "Cy"}'))


async def _ask(application, path, cookie, body=None):
    """Ask an ASGI application without a network; a status from 500 on is told by a refusal of its own."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"cookie", f"study={cookie}".encode())] if cookie else []
    scope = {"type": "http", "method": "POST" if body else "GET", "path": path, "root_path": "", "headers": headers}
    scope |= {"query_string": b"", "raw_path": path.encode(), "scheme": "http", "server": ("localhost", 80)}

    async def receive():
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message):
        pass

    await application(scope, receive, send)
