"""Files from the web, whole or not at all. A download that was cut short goes on where it stopped."""

import contextlib
import hashlib
import os
import shutil
import typing
from pathlib import Path

from glcic_tf.common.errors import UserError, first_line

_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CHUNK_BYTES = 2**16
_PART = ".part"  # behind the names of files that are not complete
_TRIES = 5  # of one file, as long as each brings more of it


class DownloadFailed(Exception):
    """Why a file did not come from an address, as the middle of a sentence; another address may do."""


class Digest(typing.NamedTuple):
    """How a published file is told from any other: `begins` is the hexadecimal digest by `algorithm`, or its start."""

    algorithm: str
    begins: str


def fetch(url, target, max_bytes, digest=None):
    """Download a file to a path, where it appears when it is complete and its digest is right.

    Until then it is called like the target with something more and ".part". What a killed download left there is gone
    on with if the server says that its file is still the same one; else it is deleted.

    Args:
        url: http or https.
        target: file to write; its folder must exist. Nobody else may write it meanwhile.
        max_bytes: the most that it may have.
        digest: Digest of the whole file; None: it is not known.

    Raises:
        DownloadFailed: it cannot be had there.
        UserError: the disk is full, or the folder cannot be written.
    """
    import requests

    target = Path(target)
    for _ in range(_TRIES):
        before = _part_bytes(target)
        try:
            return _fetch_once(requests, url, target, max_bytes, digest)
        except requests.RequestException as error:  # an OSError, so first
            if _part_bytes(target) <= before:  # trying again would not bring more
                raise DownloadFailed(_reason(requests, error)) from error
            reason = _reason(requests, error)
        except OSError as error:  # of the disk: what is there would only be in the way
            delete_parts(target)
            raise UserError(
                f"{target.parent}: cannot be written ({error.strerror or error}); make room, or choose another place."
            ) from error
    raise DownloadFailed(reason)


def delete_parts(target, keep=None):
    """Delete what downloads to a path have left, but for the path `keep`; return how many files that were."""
    others = [path for path in _parts(target) if path != keep]
    for path in others:
        path.unlink(missing_ok=True)
    return len(others)


def _parts(target):
    begin = target.name + "."
    names = os.listdir(target.parent) if target.parent.is_dir() else []
    return [target.with_name(name) for name in names if name.startswith(begin) and name.endswith(_PART)]


def _part_bytes(target):
    return max((path.stat().st_size for path in _parts(target)), default=0)


def _fetch_once(requests, url, target, max_bytes, digest):
    headers = {"Accept-Encoding": "identity"}  # else lengths would be those of something compressed

    def get(**more):
        response = requests.get(
            url, headers=headers | more, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS), allow_redirects=True
        )
        return contextlib.closing(response)

    with contextlib.ExitStack() as stack:
        response = stack.enter_context(get())
        if response.status_code != 200:
            raise DownloadFailed(f"{response.status_code} {response.reason}"[:100])
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if (total or 0) > max_bytes:
            raise DownloadFailed(f"has {total} bytes, more than {max_bytes}")
        version = _version(response)
        part = target.with_name(f"{target.name}.{_fingerprint(url, version, total)}{_PART}")
        goes_on = version is not None and total is not None
        delete_parts(target, keep=part if goes_on else None)
        have = part.stat().st_size if part.exists() else 0
        if total is not None and shutil.disk_usage(part.parent).free < total - have:
            raise OSError(None, f"{total / 1e6:.0f} MB do not fit on its disk")
        if goes_on and 0 < have < total:
            response = stack.enter_context(get(**{"Range": f"bytes={have}-", "If-Range": version}))
            rest = response.headers.get("Content-Range", "") == f"bytes {have}-{total - 1}/{total}"
            if response.status_code != 206 or not rest:  # it gives the whole file again, or nothing of use
                part.unlink()
                response, have = stack.enter_context(get()), 0
        part.touch()
        if total is None or have < total:
            _write(response, part, have, total, max_bytes, target.name)
    _check(part, total, digest)
    os.replace(part, target)


def _write(response, part, have, total, max_bytes, label):
    from tqdm import tqdm

    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=label, disable=None, leave=False)
    with part.open("ab") as file, bar:
        for chunk in response.iter_content(_CHUNK_BYTES):
            have += len(chunk)
            if have > (max_bytes if total is None else total):
                break
            file.write(chunk)
            bar.update(len(chunk))


def _check(part, total, digest):
    """Raise DownloadFailed, and delete the file, unless it is complete and the right one."""
    found = part.stat().st_size
    problem = f"gave {found} bytes instead of {total}" if total not in (None, found) else None
    if digest and not problem:
        with part.open("rb") as file:
            computed = hashlib.file_digest(file, digest.algorithm).hexdigest()
        if not computed.startswith(digest.begins):
            length, name = len(digest.begins), digest.algorithm.upper()
            problem = f"gives another file ({name} {computed[:length]}, expected {digest.begins})"
    if problem:
        part.unlink()
        raise DownloadFailed(problem)


def _version(response):
    """Return what a server calls the version of its file, for If-Range; None if it does not say."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _fingerprint(*values):
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def _reason(requests, error):
    if isinstance(error, requests.Timeout):
        return "does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return first_line(error)
