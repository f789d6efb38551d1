"""Show the pictures of a study to participants and take their answers, over HTTP.

The browser is told ids of pictures and nothing else about them: what is real comes out for practice items, after they
were answered, and as one number at the end.
"""

import json
import math
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from glcic_tf.apps import listening, web_guard, web_server
from glcic_tf.apps.study import manifest
from glcic_tf.apps.study.answers import Answers

COOKIE = "study"
MAX_MS = 600_000  # longer response times are cut to this
_MAX_BODY_BYTES = 2048
_MAX_NAME = 40  # characters
_MAX_TOKEN = 64
_COOKIE_S = 30 * 24 * 3600  # so that participants may come back on another day
_JSON = "application/json"


class _Refused(Exception):
    """What was asked for cannot be done: (HTTP status, message for the participant)."""


def app(folder, display_ms=0):
    """Make the ASGI application of a study.

    Args:
        folder: that `prepare` wrote; answers.sqlite is made in it.
        display_ms: hide each picture after so many milliseconds; 0: leave it.

    Raises:
        UserError: no study, or its answers cannot be written.
    """
    study = manifest.read(folder)
    return _Server(Path(folder), study, Answers(folder, study), display_ms).app()


def serve(folder, host="127.0.0.1", port=8000, display_ms=0, allowed_hosts=(), root_path="", token=None):
    """Serve a study until Ctrl-C.

    Args:
        folder, display_ms: as of `app`.
        host: name or address to listen on.
        port: 0 takes a free one.
        allowed_hosts, root_path, token: of `web_guard.access`.

    Raises:
        UserError: no study, or the address cannot be listened on.
    """
    application = app(folder, display_ms)
    with listening.listen(host, port) as listener:
        access = web_guard.access(host, listener, allowed_hosts, root_path, token)
        listening.warn_of_others(host, listener, access.token)
        print(f"The study is at {access.url(listening.url(host, listener))} (Ctrl-C ends it)", flush=True)
        listening.serve(web_server.server(web_guard.Guard(application, access)), listener)
        print("The study has ended; what was answered is kept.")


class _Server:
    def __init__(self, folder, study, answers, display_ms):
        self._pictures = folder / manifest.PICTURES
        self._study, self._answers, self._display_ms = study, answers, display_ms
        self._items = study.all_items()
        self._practice = {item.id for item in study.practice}
        page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        script = page.split("<script>")[1].split("</script>")[0]
        self._page = page
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }

    def app(self):
        """The application."""
        return Starlette(
            routes=[
                Route("/", self._wrapped(self._show_page)),
                Route("/api/state", self._wrapped(self._show_state)),
                Route("/api/join", self._wrapped(self._join), methods=["POST"]),
                Route("/api/answer", self._wrapped(self._answer), methods=["POST"]),
                Route("/picture/{id}", self._wrapped(self._picture)),
            ]
        )

    def _wrapped(self, handle):
        """An endpoint of handle(request, its JSON or None) -> response, which works in a thread."""

        async def endpoint(request):
            try:
                body = await _json(request) if request.method == "POST" else None
                response = await run_in_threadpool(handle, request, body)
            except _Refused as refused:
                response = JSONResponse({"error": refused.args[1]}, refused.args[0])
            response.headers.update(self._headers)
            return response

        return endpoint

    def _participant(self, request):
        token = request.cookies.get(COOKIE, "")
        return self._answers.participant(token) if 0 < len(token) <= _MAX_TOKEN else None

    def _known(self, request):
        participant = self._participant(request)
        if participant is None:
            raise _Refused(401, "Enter your name first.")
        return participant

    def _show_page(self, request, _):
        return HTMLResponse(self._page)

    def _show_state(self, request, _):
        participant = self._participant(request)
        return JSONResponse(self._state(*participant) if participant else {"stage": "join"})

    def _state(self, number, name):
        """What the page has to know: how far the participant is, and the id of the picture to show."""
        answered = self._answers.answered(number)
        item = next((item for item in self._study.order(number) if item.id not in answered), None)
        practised = len(self._practice & answered.keys())
        state = {
            "stage": "done" if item is None else "practice" if item.id in self._practice else "items",
            "name": name,
            "id": item and item.id,
            "practised": practised,
            "practice": len(self._practice),
            "done": len(answered) - practised,
            "items": len(self._study.items),
            "display_ms": self._display_ms,
        }
        if item is None:
            state["right"] = sum(answered[i.id] == (i.kind == manifest.REAL) for i in self._study.items)
        return state

    def _join(self, request, body):
        participant = self._participant(request)
        if participant:  # a second tab
            return JSONResponse(self._state(*participant))
        name = body.get("name")
        name = " ".join(name.split()) if isinstance(name, str) else ""
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise _Refused(400, f"Enter a name or code of 1 to {_MAX_NAME} characters.")
        try:
            token = self._answers.join(name)
        except OverflowError:
            raise _Refused(503, "The study is full. Thank you!") from None
        if token is None:
            message = "Somebody has this name. If it was you, go on in the browser where you began; else take another."
            raise _Refused(409, message)
        response = JSONResponse(self._state(*self._answers.participant(token)))
        response.set_cookie(
            COOKIE, token, max_age=_COOKIE_S, httponly=True, samesite="strict", path=request.scope["root_path"] or "/"
        )
        return response

    def _answer(self, request, body):
        number, name = self._known(request)
        id, natural, milliseconds = body.get("id"), body.get("natural"), body.get("ms")
        item = self._items.get(id) if isinstance(id, str) else None
        if item is None or not isinstance(natural, bool):
            raise _Refused(400, "The answer names no picture of this study, or does not say yes or no.")
        if milliseconds is not None:  # None: the page was not in sight all the time
            if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
                raise _Refused(400, "The response time is no number.")
            milliseconds = float(min(max(milliseconds, 0), MAX_MS))
            milliseconds = None if math.isnan(milliseconds) else milliseconds
        counted = id == self._state(number, name)["id"] and self._answers.add(number, id, natural, milliseconds)
        state = self._state(number, name) | {"counted": counted}
        if id in self._practice and id in self._answers.answered(number):
            state["feedback"] = {"kind": item.kind}
        return JSONResponse(state)

    def _picture(self, request, _):
        number, name = self._known(request)
        item = self._items.get(request.path_params["id"].removesuffix(".png"))
        # Pictures that are still to come would give away some time to look at them.
        if item is None or item.id not in (*self._answers.answered(number), self._state(number, name)["id"]):
            raise _Refused(404, "There is no such picture, or not yet.")
        # Not as a file: its time would be told, and copying a study gives files new times, maybe one after the other.
        return Response((self._pictures / f"{item.id}.png").read_bytes(), media_type="image/png")


async def _json(request):
    """The request's body, a dict; of bounded size, and of a type that other sites' forms cannot send."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _JSON:
        raise _Refused(415, f"Expected {_JSON}.")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise _Refused(413, f"Expected at most {_MAX_BODY_BYTES} bytes.")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _Refused(400, "Expected an object in JSON.")
    return body
