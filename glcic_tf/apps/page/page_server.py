"""Serve the page, and the API beside it: one port, one folder for all that is temporary, only what the page needs.

Gradio serves far more than its page: it fetches URLs for visitors, passes requests on to other hosts, keeps files. So
requests are let through by a list of what the page uses.
"""

import asyncio
import json
import os

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from glcic_tf.apps import listening, web_guard, web_server
from glcic_tf.apps.api import api_server
from glcic_tf.apps.page import temporary_files
from glcic_tf.apps.page.open_photos import Photos
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.apps.quota import Limits, Quota
from glcic_tf.apps.served_models import Models

MAX_HELD_BYTES = 2**32  # pixels of all photos at work
IDLE_S = 4 * 3600  # photos, and files that the page made, are kept so long without use
UPLOADS_S = 1800
_MAX_JSON_BYTES = 2**18
_MAX_SESSION = 100  # characters
_FORM_BYTES = 2**16  # what a form adds to the files in it
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
_ASSETS = ("/assets/", "/static/")
_API = "/gradio_api/"
_READ = ("app_id", "startup-events", "upload_progress", "queue/data", "queue/status")
_READ_BELOW = "heartbeat/"
_SENT = ("queue/join", "cancel", "reset")
_UPLOAD, _FILE = _API + "upload", _API + "file="
_HEADERS = {
    # The painting canvas compiles its drawing code: unsafe-eval. All else is as far from other hosts as can be.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def serve(models=(), host="127.0.0.1", port=7860, limits=None, allowed_hosts=(), root_path="", token=None):
    """Serve the page until Ctrl-C.

    Args:
        models: of `served_models.Models`.
        host: name or address to listen on.
        port: 0 takes a free one.
        limits: quota.Limits.
        allowed_hosts, root_path, token: of `web_guard.access`.

    Raises:
        UserError: the address cannot be listened on, or a model is missing or is none.
    """
    limits = limits or Limits()
    with listening.listen(host, port) as listener, temporary_files.own_folder() as path:
        access = web_guard.access(host, listener, allowed_hosts, root_path, token)
        folder = Folder(path, UPLOADS_S, IDLE_S, limits.stored_bytes)
        models = Models(models)
        application = api_server.Beside(app(models, folder, limits, root_path), api_server.app(models, limits))
        listening.warn_of_others(host, listener, access.token)
        print(f"The page is at {access.url(listening.url(host, listener))} (Ctrl-C ends it)", flush=True)
        with folder.sweeping():
            listening.serve(web_server.server(web_guard.Guard(application, access), "on"), listener)
        print("The page has ended.")


def app(models, folder, limits, root_path=""):
    """Make the ASGI application of the page, to be put behind a `web_guard.Guard`.

    Args:
        models: a Models.
        folder: a Folder; all that visitors send and get is in it.
        limits: quota.Limits.
        root_path: that a proxy shows the page under.
    """
    os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder.path)
    # In a loop: without one, Gradio makes several and closes none.
    return asyncio.run(_application(models, folder, limits, root_path))


async def _application(models, folder, limits, root_path):
    import gradio
    from fastapi import FastAPI

    from glcic_tf.apps.page import layout

    blocks = layout.make(models, Photos(MAX_HELD_BYTES, IDLE_S), folder, limits.pixels, limits.max_queue)
    application = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        allowed_paths=[],
        blocked_paths=[],
        max_file_size=limits.upload_bytes,
        root_path=root_path.rstrip("/") or None,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        show_error=True,
        **layout.LOOK,
    )
    blocks.has_launched = True  # else Gradio takes any path for that of an uploaded file, /etc/passwd too
    return _Guard(application, folder, limits, layout.Waiting(blocks, limits.max_queue))


class _Guard:
    """Lets through what the page needs, of bounded size, and adds headers."""

    def __init__(self, application, folder, limits, waiting):
        self._application, self._folder, self._waiting = application, folder, waiting
        self._upload_bytes, stored_bytes = limits.upload_bytes, limits.stored_bytes
        self._quota = Quota(stored_bytes, max(stored_bytes // 4, self._upload_bytes), UPLOADS_S)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        path = scope["path"].removeprefix(scope["root_path"])
        refused = self._refusal(scope, path)
        if not refused and scope["method"] == "POST" and path.rstrip("/") != _UPLOAD:
            body, receive = await _whole(receive)
            refused = self._misfit(path.rstrip("/").removeprefix(_API), body)
        if refused:
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)
            return
        if path == "/":
            scope = {**scope, "query_string": b""}  # it could name a file of settings
        await self._application(scope, receive, send_with_headers)

    def _refusal(self, scope, path):
        """Return (status, reason) if a request is not let through, else None."""
        method, headers = scope["method"], dict(scope["headers"])
        if method in ("GET", "HEAD"):
            if path.startswith(_FILE):
                return None if self._folder.owns(path[len(_FILE) :]) else (403, "There is no such file for you.")
            below = path.removeprefix(_API)
            if path in _PAGES or path.startswith(_ASSETS):
                return None
            if path.startswith(_API) and (below in _READ or below.startswith(_READ_BELOW)):
                return None
            return 404, "There is nothing here."
        path = path.rstrip("/")
        if method != "POST" or path != _UPLOAD and path.removeprefix(_API) not in _SENT:
            return 404, "There is nothing here."
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "The length of what is sent is missing."
        most = self._upload_bytes + _FORM_BYTES if path == _UPLOAD else _MAX_JSON_BYTES
        if int(length) > most:
            return 413, f"At most {most / 1e6:.1f} MB can be sent."
        if path == _UPLOAD:
            exceeded = self._quota.take((scope.get("client") or [None])[0], int(length))
            if exceeded == "each":
                return 429, "You have sent as much as is kept of one visitor: go on in half an hour."
            if exceeded or not self._folder.has_room():
                return 507, "There is no room for more files just now: try again in a while."
        return None

    def _misfit(self, below, body):
        """Return (status, reason) if what is sent in JSON is nothing that the page sends, else None."""
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            sent = None
        if not isinstance(sent, dict):
            return 400, "Expected an object in JSON."
        session = sent.get("session_hash")
        if not isinstance(session, str) or not 0 < len(session) <= _MAX_SESSION:
            return 400, "Expected a session_hash."
        return self._waiting.refusal(sent) if below == "queue/join" else None


async def _whole(receive):
    """Receive a body whole, of the length that was checked: return it, and a `receive` that gives it again."""
    chunks, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    body, given = b"".join(chunks), False

    async def again():
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again
