"""The names of networks, `--model=NAME`: those that ship, and published ones that are downloaded.

A network is downloaded only when it is named and not here yet. Whatever is not such a name is a path.
"""

import dataclasses
import os
import re
from pathlib import Path

from absl import flags

from glcic_tf.common import files
from glcic_tf.common.downloads import Digest
from glcic_tf.common.errors import UserError
from glcic_tf.convert import LICENCES, model_downloads
from glcic_tf.networks import DEFAULT_MODEL, PACKAGE

DEFAULT = DEFAULT_MODEL.stem
MODELS = "Names (see `glcic models`), model files (.keras) and SavedModel folders; package: the weights here."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # nothing that could lead to another folder

_AUTHORS = "http://iizuka.cs.tsukuba.ac.jp/data/", "http://hi.cs.waseda.ac.jp/~iizuka/data/"
_MMAGIC = ("https://download.openmmlab.com/mmediting/inpainting/global_local/",)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that has a name.

    Attributes:
        about: what it completes, and whose it is.
        licence: the licence of its weights.
        file: name of the file: a model file if it ships or is a mirror's own, otherwise the file to download.
        source: whose layout that file has, in `convert.SOURCES`; None: it is a model file.
        folders: URLs of folders that hold the file, in the order in which they are tried.
        megabytes: size of the download; None: not known.
        digest: Digest of the download; None: not known, so the download cannot be verified.
        ships: whether it is part of this package.
    """

    about: str
    licence: str
    file: str
    source: str | None = None
    folders: tuple[str, ...] = ()
    megabytes: int | None = None
    digest: Digest | None = None
    ships: bool = False


def _ours(about, file):
    return Network(about, "for research, see MODEL_CARD.md", file, ships=True)


def _published(about, source, folders, file, megabytes=None, digest=None):
    return Network(about, LICENCES[source], file, source, folders, megabytes, digest)


_SHIPPED = {  # as far as their files are in the folder of weights
    "scenes": _ours("scenes, half the channels, trained on a CPU", "scenes.keras"),
    "faces": _ours("faces, half the channels, trained on a CPU", "faces.keras"),
    "facades": _ours("facades, half the channels, trained on a CPU", "facades.keras"),
}
_PLACES2_SHA1 = Digest("sha1", "4206897fd900b6a5509491900a2c6fb521bf272e")
_PUBLISHED = {
    "places2": _published(
        "Places2, by the paper's authors", "torch7", _AUTHORS, "completionnet_places2.t7", 47, _PLACES2_SHA1
    ),
    "places2_freeform": _published(
        "Places2, free-form holes, by the paper's authors", "torch7", _AUTHORS, "completionnet_places2_freeform.t7", 47
    ),
    "celeba": _published("faces, by the paper's authors", "torch7", _AUTHORS, "completionnet_celeba.t7", 47),
    "mmagic_places": _published(  # the digits at the end of these file names are the beginning of the SHA-256
        "Places365, by MMagic",
        "mmagic",
        _MMAGIC,
        "gl_256x256_8x12_places_20200619-52a040a8.pth",
        digest=Digest("sha256", "52a040a8"),
    ),
    "mmagic_celeba": _published(
        "CelebA-HQ, by MMagic",
        "mmagic",
        _MMAGIC,
        "gl_256x256_8x12_celeba_20200619-5af0493f.pth",
        digest=Digest("sha256", "5af0493f"),
    ),
}


def networks():
    """Return {name: Network} of all networks that have a name here, first those that ship."""
    return {n: network for n, network in _SHIPPED.items() if weights(network).is_file()} | _PUBLISHED


def here():
    """Return {name: model file} of the networks that are on this machine: those that ship, and what was downloaded."""
    ship = {name: weights(network) for name, network in networks().items() if network.ships}
    return model_downloads.cached() | ship


def is_name(model):
    """Whether a model is given by a name in `networks`, or as "package", instead of a path."""
    return isinstance(model, str) and (model == PACKAGE or model in networks())


def remove(name):
    """Delete a downloaded network, see `model_downloads.remove`; raises UserError."""
    network = networks().get(name) or (_mirrors_own(name) if _NAME.fullmatch(name) else None)
    if network is None or network.ships:
        found = "is part of the package" if network else "is not the name of a network"
        raise UserError(f"--remove={name}: {found}; `glcic models` lists the networks that were downloaded.")
    return model_downloads.remove(name, network)


def path_of(model, flag=None, mirror=None):
    """Return the model file that a name or a path stands for; a network that is not here yet is downloaded.

    A name in `networks` always means that network: write "./places2" for a folder of that name. Anything else is a
    path or, if there is nothing at that path, the name of one of a mirror's own models (`model_downloads.MIRROR`).

    Args:
        model: name; path, in which "~" is the home folder; None: the network that ships.
        flag: flag or field that it was given by, for messages, such as "--model". With it, a path has to exist.
        mirror: URL of a folder to look in first, instead of the one that the environment names.

    Returns:
        pathlib.Path.

    Raises:
        UserError: it cannot be downloaded, or is missing.
    """
    if model is None or model == PACKAGE:
        if DEFAULT_MODEL.is_file():
            return DEFAULT_MODEL
        raise UserError(f"{DEFAULT_MODEL}: the weights of the package are missing; reinstall it or name a model.")
    if is_name(model):
        network = networks()[model]
        return weights(network) if network.ships else model_downloads.download(model, network, mirror)
    path = Path(files.with_home(model))
    may_be_name = isinstance(model, str) and _NAME.fullmatch(model) and not path.exists()
    if may_be_name and (mirror or os.environ.get(model_downloads.MIRROR) or model_downloads.is_cached(model)):
        return model_downloads.download(model, _mirrors_own(model), mirror)
    if flag and not path.exists():
        raise UserError(
            f"{flag}={model}: there is no such file or folder, and no network of this name; expected a path, or one of "
            f"{', '.join(networks())}."
        )
    return path


def define_flag():
    """Define the flag --model of one network."""
    flags.DEFINE_string(
        "model",
        None,
        f"Name of a network (`glcic models` lists them; by default {DEFAULT}), or a model file (.keras) that `glcic "
        "train` wrote.",
    )


def weights(network):
    """Return the path of a network that ships."""
    return DEFAULT_MODEL.with_name(network.file)


def _mirrors_own(name):
    return Network("from a mirror", "its owner's", f"{name}.keras")
