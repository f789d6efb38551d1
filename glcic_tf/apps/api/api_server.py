"""The API's application, what stands before it, and `glcic serve`, which serves it alone."""

import collections
import contextlib
import html
import typing

import anyio
from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse

import glcic_tf
from glcic_tf.apps import listening, web_guard, web_server
from glcic_tf.apps.api import request_completion
from glcic_tf.apps.quota import Limits
from glcic_tf.apps.served_models import Models
from glcic_tf.completion import postprocesses
from glcic_tf.imaging import images

DOCUMENTS = ("/health", "/openapi.json", "/docs")
PREFIX = "/api/v1/"
_FORM_BYTES = 2**16  # what a form adds to the files in it
_TOLD = "X-Completion"  # header with JSON
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)


def serve(models=(), host="127.0.0.1", port=8000, limits=None, allowed_hosts=(), root_path="", token=None):
    """Serve the API until Ctrl-C.

    Args:
        models: of `served_models.Models`.
        host: name or address to listen on.
        port: 0 takes a free one.
        limits: quota.Limits.
        allowed_hosts, root_path, token: of `web_guard.access`.

    Raises:
        UserError: the address cannot be listened on, or a model is missing or is not one.
    """
    limits = limits or Limits()
    with listening.listen(host, port) as listener:
        access = web_guard.access(host, listener, allowed_hosts, root_path, token)
        application = app(Models(models), limits)
        listening.warn_of_others(host, listener, access.token)
        print(f"The API is at {access.url(listening.url(host, listener) + 'docs')} (Ctrl-C ends it)", flush=True)
        listening.serve(web_server.server(web_guard.Guard(application, access)), listener)
        print("The API has ended.")


def app(models, limits):
    """Make the ASGI application of the API, to be put behind a `web_guard.Guard`.

    Args:
        models: a served_models.Models.
        limits: quota.Limits.
    """
    api = FastAPI(title="glcic_tf", version=glcic_tf.__version__, docs_url=None, redoc_url=None, summary=_SUMMARY)
    _define(api, models, limits)
    return _Bounded(api, limits)


_SUMMARY = "Fills the holes of photos (Globally and Locally Consistent Image Completion, Iizuka et al. 2017)."
_ERRORS = {
    status: {"description": f'{why} {{"error": "what was found, what was expected"}}'}
    for status, why in {
        400: "The body is not a form.",
        401: "A token is missing or wrong.",
        403: "Another site's page asks.",
        411: "The length of the body is missing.",
        413: "A file is too large.",
        421: "The server does not go by this name.",
        422: "A field is at fault.",
        429: "Too many requests of one client at once.",
        503: "Too many requests wait: try again later.",
    }.items()
}


def _define(api, models, limits):
    queue = _Queue(limits.max_queue)
    # Who waits for a network does so without a thread: those of the pool also receive files, and serve the page.
    turns = {name: anyio.CapacityLimiter(1) for name in models.names}

    @api.get("/health", summary="Whether the server answers.")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/api/v1/models", summary="The networks to choose from, the first being the default.")
    async def list_models() -> dict[str, list[str]]:
        return {"models": models.names}

    @api.post(
        "/api/v1/complete",
        summary="Fill the hole of a photo; the answer is the completed image file.",
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in request_completion.MEDIA_TYPES.values()}}, **_ERRORS},
    )
    async def complete(
        request: Request,
        image: typing.Annotated[UploadFile, File(description="The photo, an image file.")],
        mask: typing.Annotated[
            UploadFile | None, File(description="White = hole. Without it, the hole is where the image is transparent.")
        ] = None,
        model: typing.Annotated[str | None, Form(description="A name that /api/v1/models lists.")] = None,
        postprocess: typing.Annotated[
            typing.Literal[tuple(postprocesses.POSTPROCESSES)], Form(description=postprocesses.EXPECTED)
        ] = postprocesses.DEFAULT,
        scale: typing.Annotated[str, Form(description="auto, or a number in (0, 1].")] = "auto",
        invert_mask: typing.Annotated[bool, Form(description="Black is the hole.")] = False,
        resize_mask: typing.Annotated[bool, Form(description="Bring a mask of another size to the image's.")] = False,
        mask_dilate: typing.Annotated[int, Form(ge=0, le=1024, description="Grow the hole by so many px.")] = 0,
        uncrop: typing.Annotated[
            str | None,
            Form(description="left,top,right,bottom: px to add on each side and complete; mask is not needed then."),
        ] = None,
        format: typing.Annotated[
            typing.Literal[request_completion.FORMATS] | None,
            Form(description="Of the answer; by default the image's."),
        ] = None,
        jpeg_quality: typing.Annotated[int, Form(ge=1, le=100)] = images.JPEG_QUALITY,
    ):
        form = await request.form()
        for field in form:
            if field not in complete.__annotations__ or field == "request":
                raise request_completion.Refused(422, f"{field[:80]!r}: there is no such field; see /docs.")
            if len(form.getlist(field)) > 1:
                raise request_completion.Refused(422, f"{field}: is given more than once.")
        model = model or models.names[0]
        if model not in turns:
            known = ", ".join(models.names)
            raise request_completion.Refused(422, f"model: found {model[:80]!r}; expected one of {known}.")
        given = {
            "scale": _number(scale),
            "postprocess": postprocess,
            "invert_mask": invert_mask,
            "resize_mask": resize_mask,
            "mask_dilate": mask_dilate,
            "uncrop": uncrop.split(",") if uncrop else None,
        }
        files = [_checked(name, file, limits) for name, file in (("image", image), ("mask", mask))]
        with queue.place():
            arguments = models, model, *files, given, format, jpeg_quality, limits.pixels
            answer = await anyio.to_thread.run_sync(request_completion.complete, *arguments, limiter=turns[model])
        return Response(answer.content, media_type=answer.media_type, headers={_TOLD: answer.told})

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(_page(api.openapi(), str(request.base_url)))

    @api.exception_handler(request_completion.Refused)
    async def refused(request: Request, error: request_completion.Refused):
        return _error(error.status, str(error))

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError):
        first = error.errors()[0]
        return _error(422, f"{first['loc'][-1]}: {first['msg'][:1].lower()}{first['msg'][1:]}.")

    @api.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException):
        detail = error.detail.lower().rstrip(".")
        return _error(error.status_code, f"{request.method} {request.url.path[:80]}: {detail}; see /docs.")


class _Queue:
    """Counts those that wait for a network, in the server's one thread of requests."""

    def __init__(self, most):
        self._most, self._waiting = most, 0

    @contextlib.contextmanager
    def place(self):
        """Take a place while it is needed; raise Refused if there is none."""
        if self._waiting > self._most:
            raise request_completion.Refused(503, "Too many requests wait; try again later.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


def _checked(name, file, limits):
    if file is None:
        return None
    if file.size > limits.upload_bytes:
        raise request_completion.Refused(
            413, f"{name}: has {file.size / 1e6:.1f} MB; at most {limits.max_upload_mb:g} are taken."
        )
    return file.file


def _number(scale):
    try:
        return float(scale)
    except ValueError:
        return scale  # "auto", or something that is refused with the other options


def _error(status, reason):
    return JSONResponse({"error": reason}, status)


def _page(schema, address):
    """The documents as one page that needs nothing else; address: of the server, with a slash at its end."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            parts.append(f"<h2><code>{method.upper()} {path}</code></h2><p>{html.escape(about['summary'])}</p>")
            for body in about.get("requestBody", {}).get("content", {}).values():
                fields = schema["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
                parts.append("<table><tr><th>field<th>default<th>what it is" + "".join(_rows(fields)) + "</table>")
    style = (
        "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
        "td,th{text-align:left;vertical-align:top;padding:.2em 1em .2em 0}"
    )
    command = "curl --fail-with-body -F image=@photo.jpg -F mask=@mask.png -o completed.jpg"
    example = html.escape(f"{command} {address}api/v1/complete")
    return (
        f"<!doctype html><meta charset=utf-8><title>{schema['info']['title']}</title><style>{style}</style>"
        f"<h1>{schema['info']['title']} {schema['info']['version']}</h1><p>{html.escape(_SUMMARY)}</p>"
        f"<pre>{example}</pre>{''.join(parts)}<p><a href=openapi.json>openapi.json</a></p>"
    )


def _rows(fields):
    required = fields.get("required", ())
    for name, field in fields["properties"].items():
        default = "required" if name in required else field.get("default", "")
        about = field.get("description", "") or field.get("title", "")
        yield f"<tr><td><code>{name}</code><td>{html.escape(str(default))}<td>{html.escape(about)}"


class _Bounded:
    """ASGI: receives no more bytes in one request, and at once of all clients and of one, than the limits allow."""

    def __init__(self, application, limits):
        self._application = application
        self._most_bytes = 2 * limits.upload_bytes + _FORM_BYTES
        self._all_bytes = max(limits.stored_bytes, self._most_bytes)
        self._each_bytes = max(self._all_bytes // 4, self._most_bytes)
        self._held = collections.Counter()  # client -> bytes of the requests that are under way

    async def __call__(self, scope, receive, send):
        """Answer a request."""

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        if scope["method"] != "POST":
            await self._application(scope, receive, send_with_headers)
            return
        client = (scope.get("client") or [None])[0]
        length = dict(scope["headers"]).get(b"content-length", b"")
        refusal = self._refusal(client, length)
        if refusal:
            await _error(*refusal)(scope, receive, send_with_headers)
            return
        self._held[client] += int(length)
        try:
            await self._application(scope, receive, send_with_headers)
        finally:
            self._held[client] -= int(length)
            if not self._held[client]:
                del self._held[client]

    def _refusal(self, client, length):
        """Return (status, reason) if a request is not let through, else None."""
        if not length.isdigit():
            return 411, "Content-Length: is missing; expected the number of bytes."
        if int(length) > self._most_bytes:
            return 413, f"Content-Length: is {int(length)}; at most {self._most_bytes} bytes are taken."
        if self._held[client] + int(length) > self._each_bytes:
            return 429, "You have sent too much at once; wait for the answers."
        if self._held.total() + int(length) > self._all_bytes:
            return 503, "Too much is sent at once; try again later."
        return None


class Beside:
    """ASGI: a page, and the API under its own paths."""

    def __init__(self, page, api):
        self._page, self._api = page, api

    async def __call__(self, scope, receive, send):
        """Answer a request."""
        path = scope["path"].removeprefix(scope["root_path"]) if scope["type"] == "http" else ""
        chosen = self._api if path in DOCUMENTS or path.startswith(PREFIX) else self._page
        await chosen(scope, receive, send)
