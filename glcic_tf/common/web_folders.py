"""Folders of web servers, http and https: a page that lists what is in a folder stands for it. Read through fsspec."""

from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from glcic_tf.common import file_systems
from glcic_tf.common.errors import UserError

_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 10, 60, 1800  # the last: of a request that goes on drop by drop
_MAX_PAGE_BYTES = 2**26
_PLAIN = {"Accept-Encoding": "identity"}  # else lengths would be those of something compressed


class Web:
    """URLs of web servers. See `file_systems.Local` and `TensorFlow` for the methods."""

    def __init__(self):
        import aiohttp
        from fsspec import filesystem

        self._error = aiohttp.ClientResponseError
        timeout = aiohttp.ClientTimeout(_ALL_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        self._fs = filesystem("http", client_kwargs={"timeout": timeout})

    def is_folder(self, path):
        """Whether it is a page of HTML: photos, masks and shards are none."""
        try:
            with self._get(path.url) as file:
                return file.r.content_type == "text/html"
        except FileNotFoundError:
            return False

    def exists(self, path):  # noqa: D102
        try:
            self._get(path.url).close()
        except FileNotFoundError:
            return False
        return True

    def size(self, path):  # noqa: D102
        with self._get(path.url) as file:
            if file.r.content_length is None:
                raise OSError("the server does not say its length")
            return file.r.content_length

    def read(self, path, start, length):  # noqa: D102
        if length == 0:
            return b""
        try:
            with self._get(path.url, Range=f"bytes={start}-{start + length - 1}") as file:
                if start and file.r.status != 206:
                    raise OSError("the server does not give parts of files; copy them here")
                return _read(file, length)
        except self._error as error:
            if error.status == 416:  # beyond its end
                return b""
            raise

    def copy(self, path, target, max_bytes):  # noqa: D102
        with self._get(path.url) as file:
            length = file.r.content_length
            file_systems.check_length(path, length, max_bytes)
            file_systems.save(path, file, target, length, max_bytes)

    def names(self, folder):  # noqa: D102
        return {name: None for name, _, _ in self.listed(folder)}

    def walk(self, folder):  # noqa: D102
        return file_systems.walk(self, folder)

    def listed(self, folder):
        """List a folder by the links of its page to what is right in it; see `file_systems.Fsspec.listed`."""
        base, mark, query = folder.url.partition("?")
        with self._get(base.rstrip("/") + "/" + mark + query) as file:
            if file.r.content_type != "text/html":
                raise OSError("expected a page that lists a folder, found something else")
            page = _read(file, _MAX_PAGE_BYTES + 1)
            base = str(file.r.url)
        if len(page) > _MAX_PAGE_BYTES:
            raise UserError(f"{folder}: its page has more than {_MAX_PAGE_BYTES} bytes; name a part of it.")
        links = _Links()
        links.feed(page.decode("utf-8", "replace"))
        found = {}
        for link in links.found:
            name, is_folder = _inside(base, link)
            if name is not None:
                file_systems.check_name(folder, name)
                found[name] = (name, is_folder, None)
        return list(found.values())

    def check_writable(self, path):  # noqa: D102
        raise UserError(f"{path}: web servers are read from alone; name a folder of this machine or a bucket.")

    write = None  # never called: see check_writable

    def _get(self, url, **headers):
        """Open a URL, a file object whose `r` is aiohttp's response; its body is not read yet."""
        return self._fs.open(url, "rb", block_size=0, size=1, headers=_PLAIN | headers)


class _Links(HTMLParser):
    """Collects where a page's links point."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):  # noqa: D102
        self.found += [value for name, value in attributes if tag == "a" and name == "href" and value]


def _inside(base, link):
    """Return (name, whether it is a folder) of a link to what is right in a folder; (None, False) for any other."""
    try:
        folder, target = urlsplit(base), urlsplit(urljoin(base, link))
    except ValueError:  # not a URL
        return None, False
    same_host = (target.scheme, target.hostname, target.port) == (folder.scheme, folder.hostname, folder.port)
    above = [unquote(part) for part in folder.path.rstrip("/").split("/")]
    parts = [unquote(part) for part in target.path.split("/")]
    name, rest = parts[len(above) : len(above) + 1], parts[len(above) + 1 :]
    if not same_host or target.query or parts[: len(above)] != above or name in ([], [""]) or rest not in ([], [""]):
        return None, False  # the folder above, an order of sorting, another site, something deeper
    return name[0], rest == [""]


def _read(file, length):
    """Read so many bytes, or fewer where the file ends."""
    chunks, left = [], length
    while left > 0 and (chunk := file.read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
