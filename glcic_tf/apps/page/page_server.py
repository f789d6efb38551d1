"""Serve the page: one port, one folder for everything temporary, and nothing let through that the page does not need.

Gradio serves far more than its page: it fetches URLs for visitors, passes requests on to other hosts, keeps files. So
requests are let through by a list of what the page and the documented endpoint use.
"""

import asyncio
import os
import tempfile

import uvicorn
from starlette.responses import JSONResponse

from glcic_tf.apps import listening
from glcic_tf.apps.page.models import Models
from glcic_tf.apps.page.open_photos import Photos
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.common import cli

MAX_HELD_BYTES = 2**32  # pixels of all photos at work
IDLE_S = 4 * 3600  # photos, and files that the page made, are kept so long without use
UPLOADS_S = 1800
_MAX_JSON_BYTES = 2**18
_FORM_BYTES = 2**16  # what a form adds to the files in it
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
_ASSETS = ("/assets/", "/static/")
_API = "/gradio_api/"
_READ = ("info", "openapi.json", "app_id", "startup-events", "upload_progress", "queue/data", "queue/status")
_READ_BELOW = ("heartbeat/", "call/complete/")
_SENT = ("queue/join", "call/complete", "call/v2/complete", "cancel", "reset")
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


def serve(models=(), host="127.0.0.1", port=7860, max_upload_mb=100, max_megapixels=100, max_queue=16):
    """Serve the page until Ctrl-C.

    Args:
        models: of `models.Models`.
        host: name or address to listen on.
        port: 0 takes a free one.
        max_upload_mb: refuse larger files.
        max_megapixels: refuse larger photos and masks before decoding them.
        max_queue: refuse what is asked for while so many requests wait.

    Raises:
        UserError: the address cannot be listened on, or a model is missing or is none.
    """
    with listening.listen(host, port) as listener, tempfile.TemporaryDirectory(prefix="glcic-app-") as folder:
        application = app(Models(models), folder, max_upload_mb, max_megapixels, max_queue)
        if not listening.is_loopback(listener):
            cli.say(f"--host={host}: everybody who reaches this machine on the network can use the page.")
        print(f"The page is at {listening.url(host, listener)} (Ctrl-C ends it)", flush=True)
        listening.serve(server(application), listener)
        print("The page has ended.")


def server(application):
    """Return the uvicorn.Server of an application: `run(sockets=[listener])` serves it."""
    return uvicorn.Server(
        uvicorn.Config(
            application, log_level="warning", ws="none", lifespan="on", server_header=False, timeout_graceful_shutdown=1
        )
    )


def app(models, folder, max_upload_mb=100, max_megapixels=100, max_queue=16):
    """Make the ASGI application of the page.

    Args:
        models: a Models.
        folder: empty; all that visitors send and get is in it, and is deleted after some hours.
        max_upload_mb, max_megapixels, max_queue: as of `serve`.
    """
    folder = Folder(folder, UPLOADS_S, IDLE_S)
    os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder.path)
    upload_bytes = round(max_upload_mb * 1e6)
    # In a loop: without one, Gradio makes several and closes none.
    application = asyncio.run(_application(models, folder, upload_bytes, round(max_megapixels * 1e6), max_queue))
    return _Guard(application, folder, upload_bytes)


async def _application(models, folder, upload_bytes, max_pixels, max_queue):
    import gradio
    from fastapi import FastAPI

    from glcic_tf.apps.page import layout

    blocks = layout.make(models, Photos(MAX_HELD_BYTES, IDLE_S), folder, max_pixels, max_queue)
    application = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        allowed_paths=[],
        blocked_paths=[],
        max_file_size=upload_bytes,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        show_error=True,
        **layout.LOOK,
    )
    blocks.has_launched = True  # else Gradio takes any path for that of an uploaded file, /etc/passwd too
    return application


class _Guard:
    """Lets through what the page needs, of bounded size, and adds headers."""

    def __init__(self, application, folder, upload_bytes):
        self._application, self._folder, self._upload_bytes = application, folder, upload_bytes

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        refused = self._refusal(scope)
        if refused:
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)
            return
        if scope["path"] == "/":
            scope = {**scope, "query_string": b""}  # it could name a file of settings
        await self._application(scope, receive, send_with_headers)

    def _refusal(self, scope):
        """Return (status, reason) if a request is not let through, else None."""
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        if method == "OPTIONS":
            return None
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
        if headers.get(b"sec-fetch-site") == b"cross-site":
            return 403, "Another site may not use this page."
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "The length of what is sent is missing."
        most = self._upload_bytes + _FORM_BYTES if path == _UPLOAD else _MAX_JSON_BYTES
        if int(length) > most:
            return 413, f"At most {most / 1e6:.1f} MB can be sent."
        return None
