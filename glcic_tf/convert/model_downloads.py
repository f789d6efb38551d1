"""Published networks on this machine: downloaded once, converted, and kept as model files in the user's cache."""

import contextlib
import os
from pathlib import Path

from glcic_tf.common import cli, downloads, files
from glcic_tf.common.errors import UserError, without_secrets
from glcic_tf.convert import torch7

MIRROR = "GLCIC_MODELS_URL"  # environment variable: a folder on the web with these files, or models of the user's own
_MAX_BYTES = torch7.MAX_BYTES


def folder():
    """Return the folder that networks are kept in, which need not exist.

    Raises:
        UserError: there is no home folder that it could be in.
    """
    return files.cache_folder("models")


def cached():
    """Return {name: path} of the networks that were downloaded."""
    try:
        return {path.stem: path for path in sorted(folder().glob("*.keras")) if not path.name.startswith(".")}
    except (UserError, OSError):  # there is no home folder, or it may not be read
        return {}


def is_cached(name):
    """Whether a network was downloaded."""
    return name in cached()


def download(name, network, mirror=None):
    """Return the model file of a network, and download it first if it is not here.

    Args:
        name: the network's name.
        network: `model_names.Network` that does not ship.
        mirror: URL of a folder that is tried first; None: the one that the environment names, if any.

    Raises:
        UserError: it cannot be downloaded from anywhere, there is no room for it, or no folder to keep it in.
    """
    target = folder() / f"{name}.keras"
    if target.is_file():
        return target
    files.make_folder(target.parent)
    with _alone(target):
        if not target.is_file():  # otherwise another process has downloaded it meanwhile
            _download(name, network, target, mirror or os.environ.get(MIRROR))
    return target


def remove(name, network):
    """Delete a network that was downloaded, and what is left of downloads that were cut short.

    Args:
        name, network: as for `download`.

    Returns:
        How many bytes it had.

    Raises:
        UserError: it was not downloaded, or cannot be deleted.
    """
    target = folder() / f"{name}.keras"
    parts = downloads.delete_parts(_fetched(network, target))
    if not target.is_file() and not parts:
        raise UserError(f"--remove={name}: was not downloaded; `glcic models` lists the networks that were.")
    try:
        size = target.stat().st_size if target.is_file() else 0
        target.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{target}: cannot be deleted ({error.strerror}); check its permissions.") from error
    return size


@contextlib.contextmanager
def _alone(target):
    """Make other processes that want the same network wait; the lock of a process that was killed is free again."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f".{target.stem}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            cli.say(f"{target.stem}: waiting for another process that is downloading it")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{target.parent}: cannot be written ({reason}); set XDG_CACHE_HOME to a folder that can."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _download(name, network, target, mirror):
    """Try one address after the other, and convert the file from the first that has such a network."""
    addresses = [f"{base.rstrip('/')}/{network.file}" for base in dict.fromkeys([mirror, *network.folders]) if base]
    size = f" ({network.megabytes} MB)" if network.megabytes else ""
    cli.say(f"{name}: downloading {network.file}{size} to {target.parent}. Licence: {network.licence}.")
    if network.digest is None:
        cli.say(f"{name}: no hash of this file is known, so it is used unverified; no code in it is run.")
    fetched, problems = _fetched(network, target), []
    for url in addresses:
        shown = without_secrets(url)
        try:
            downloads.fetch(url, fetched, _MAX_BYTES, network.digest)
            _keep(network, fetched, target, shown)
        except (downloads.DownloadFailed, _NotSuch) as error:
            problems.append(f"{shown}: {error}")
        else:
            return cli.say(f"{name}: downloaded from {shown}, kept as {target}")
        finally:
            fetched.unlink(missing_ok=True)
    elsewhere = f"set {MIRROR} to a folder on the web that has {network.file}"
    if network.source:
        elsewhere += f", or get it elsewhere: glcic convert --input {network.file} --output {name}.keras"
    raise UserError(f"{name}: could not be downloaded ({'; '.join(problems)}); try again later, {elsewhere}.")


def _fetched(network, target):
    """Where the download of a network is kept until it is converted or checked."""
    return target.with_name(network.file if network.source else f".{network.file}")


class _NotSuch(Exception):
    """The downloaded file is not such a network; the message is the middle of a sentence."""


def _keep(network, fetched, target, url):
    """Turn a download into the model file `target`."""
    from glcic_tf.convert import conversion

    try:
        if network.source:
            model, metadata, _ = conversion.read(fetched, network.source, network="completion")
        else:
            with cli.quiet_start():
                from glcic_tf.networks import model_file
            model_file.load(fetched)
    except (conversion.UnusableWeights, UserError) as error:
        reason = str(error).removeprefix(f"{fetched}: ").partition("; ")[0]
        raise _NotSuch(f"gave something else ({reason})") from error
    if network.source:
        from glcic_tf.networks import model_file

        model_file.save(model, target, metadata | {"downloaded_from": url})
    else:
        with files.replacing(target) as temporary:
            Path(fetched).replace(temporary)
