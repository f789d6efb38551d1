"""Turns weights of other programs into model files of this package, for `glcic convert`."""

import json
from pathlib import Path

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.convert import SOURCES, torch7, torch_checkpoint

_MAX_SETTINGS_BYTES = 2**20
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of what PyTorch writes


class UnusableWeights(Exception):
    """Why a file's weights cannot be used, as the middle of a sentence."""


def convert(path, output, source=None, settings=None, network=None, overwrite=False):
    """Write published weights as a model file.

    Args:
        path: `.t7` file of the authors, or a checkpoint of GLCIC-PyTorch or MMagic. It need not be trusted: only
            numbers are read from it.
        output: `.keras` file to write.
        source: name in `convert.SOURCES`; None: recognised from the file.
        settings: config.json beside GLCIC-PyTorch's weights, with the mean pixel; None: not needed.
        network: "completion" or "discriminator" of a checkpoint that holds both; None: the completion network if there
            is one.
        overwrite: replace `output` if it is there.

    Returns:
        Lines that say what was converted, and its licence.

    Raises:
        UserError: a file is missing, broken or of another layout, or `output` may not be written.
    """
    path, output = Path(path), Path(output)
    if output.suffix != ".keras":
        raise UsageError(f"--output={output}: expected a name that ends in .keras; rename it.")
    if output.exists() and not overwrite:
        raise UserError(f"--output={output}: exists already; add --overwrite to replace it, or choose another name.")
    settings = None if settings is None else _read_settings(settings)
    try:
        model, metadata, others = read(path, source, settings, network)
    except UnusableWeights as error:
        raise UserError(
            f"--input={path}: cannot be converted: {error}; expected the weights of {', '.join(SOURCES)}."
        ) from error
    from glcic_tf.networks import discriminator_file, model_file

    source, network = metadata["source"], metadata["network"]
    save = model_file.save if network == "completion" else discriminator_file.save
    files.make_folder(output.parent)
    save(model, output, metadata)
    lines = [f"{path}: {network} network of {source}, {model.count_params():,} numbers -> {output}"]
    lines += [f"The file also holds a {n} network; choose it with --network={n}." for _, n in others]
    return [*lines, f"Licence of the weights: {metadata['licence']}. It is kept in the file's notes."]


def read(path, source=None, settings=None, network=None):
    """Read published weights.

    Args:
        path, source, network: as for `convert`.
        settings: dict of GLCIC-PyTorch's config.json, or None.

    Returns:
        (Keras model, metadata for `model_file.save`, list of the other (source, network) in the file).

    Raises:
        UnusableWeights: they have another layout; the message is the middle of a sentence.
        UserError: the file is missing or broken.
    """
    content = _read(path)
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.convert import published
    try:
        found = published.recognise(content)
        chosen = [(s, n) for s, n in found if source in (None, s) and network in (None, n)]
        if not chosen:
            holds = " and ".join(f"{s} ({n})" for s, n in found)
            wanted = " ".join(filter(None, [source, network]))
            raise published.LayoutError(f"it holds weights of {holds}, not of {wanted}")
        return *published.convert(content, *chosen[0], settings), [pair for pair in found if pair != chosen[0]]
    except published.LayoutError as error:
        raise UnusableWeights(str(error)) from error


def _read(path):
    """Read a weight file of either kind, told apart by its first bytes."""
    with files.open_regular(path, "a weight file") as file:
        start = file.read(4)
    if start.startswith((_ZIP, _PICKLE)):
        return torch_checkpoint.read(path)
    return torch7.read(path)


def _read_settings(path):
    try:
        with files.open_regular(path, "the config.json of GLCIC-PyTorch") as file:
            text = file.read(_MAX_SETTINGS_BYTES + 1)
        if len(text) > _MAX_SETTINGS_BYTES:
            raise ValueError("it is larger than 1 MB")
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError("it does not hold a JSON object")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"--config={path}: is not a config.json of GLCIC-PyTorch ({first_line(error)}); give the one beside "
            "model_cn."
        ) from error
    return settings
