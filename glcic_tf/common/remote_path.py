"""Names of files behind URLs, as pathlib.Path has them for files of this machine; nothing is opened here."""

import functools
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from glcic_tf.common.errors import UserError, without_secrets

WEB = ("http", "https")  # whose names are percent-encoded


@functools.total_ordering
class RemotePath:
    """A file or a folder behind a URL. It has no `__fspath__`, so that nothing opens it as if it were here.

    `str` of it is for messages: without a user, a password or a query, which may be a signature.

    Args:
        url: str, RemotePath; percent-encoded where it is http or https.

    Attributes:
        url: what requests take.

    Raises:
        UserError: it is a chain of URLs, as fsspec has them.
    """

    __slots__ = ("url",)

    def __init__(self, url):
        self.url = url.url if isinstance(url, RemotePath) else str(url)
        if "::" in self.url:
            raise UserError(f"{self}: is a chain of URLs; expected one URL.")

    @property
    def scheme(self):
        """What stands before "://", in lower case."""
        return self.url.partition("://")[0].lower()

    @property
    def name(self):
        """File name, without folders."""
        return self._parts()[-1]

    @property
    def stem(self):
        """File name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self):
        """End of the file name from its last dot on, or ""."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self):
        """RemotePath of the folder."""
        base, query = self._split()
        above = base.rpartition("/")[0]
        return self if above.endswith(("//", ":/")) or "://" not in above else RemotePath(above + query)

    def __truediv__(self, relative):
        base, query = self._split()
        parts = PurePosixPath(relative).parts
        return RemotePath("/".join([base, *(map(quote, parts) if self.scheme in WEB else parts)]) + query)

    def relative_to(self, folder):
        """Path from a folder on, as a relative pathlib.Path. Raises ValueError where it does not lie in the folder."""
        if not self.is_relative_to(folder):
            raise ValueError(f"{self} does not lie in {folder}")
        return Path(*self._parts()[len(RemotePath(folder)._parts()) :])

    def is_relative_to(self, folder):
        """Whether it is, or lies in, a folder: a RemotePath, its URL, or a pathlib.Path, which it never does."""
        if isinstance(folder, Path):
            return False
        above = RemotePath(folder)._parts()
        return self._parts()[: len(above)] == above

    def _split(self):
        """Return what stands before a query, without a slash at its end, and the query."""
        base, mark, query = self.url.partition("?") if self.scheme in WEB else (self.url, "", "")
        scheme, _, rest = base.partition("://")
        return f"{scheme}://{rest.rstrip('/')}", mark + query

    def _parts(self):
        """Scheme, host or bucket, folders and name."""
        scheme, _, rest = self._split()[0].partition("://")
        parts = rest.split("/")
        return [scheme.lower(), *(map(unquote, parts) if scheme.lower() in WEB else parts)]

    def __str__(self):
        return without_secrets(self.url)

    def __repr__(self):
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other):
        return isinstance(other, RemotePath) and self._parts() == other._parts()

    def __lt__(self, other):
        return self._parts() < other._parts()

    def __hash__(self):
        return hash(tuple(self._parts()))
