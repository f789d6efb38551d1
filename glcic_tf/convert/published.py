"""Recognises which program published a file's weights, and builds networks of this package with them.

`torch7`: the authors' release, https://github.com/satoshiiizuka/siggraph2017_inpainting. `glcic_pytorch`:
https://github.com/otenim/GLCIC-PyTorch. `mmagic`: the model global_local of https://github.com/open-mmlab/mmagic. All
have the geometry of `networks`, but each has its own order of channels, value range, filling of the hole, order of the
layers and output. Differences that cannot be moved into the weights become arguments of the network, see
`completion.completion_network`.
"""

from glcic_tf.convert import LICENCES, glcic_pytorch, mmagic, torch7_release
from glcic_tf.convert.tensors import LayoutError, Tensors

# Sides of the holes that each was trained on, px, from the paper and from MMagic's config.
_TRAINED_HOLES = {"torch7": (96, 128), "mmagic": (108, 128)}


def recognise(content):
    """Recognise whose weights these are, and of which network.

    Args:
        content: what `torch7.read` or `torch_checkpoint.read` returned.

    Returns:
        list of (source, "completion" | "discriminator"), several if a checkpoint holds both networks.

    Raises:
        LayoutError: they have none of the known layouts.
    """
    if not isinstance(content, dict):
        raise LayoutError(f"it holds a {type(content).__name__}, expected a table of weights")
    if hasattr(content.get("model"), "class_name"):
        return [("torch7", "completion")]
    names = [str(name) for name in _state(content)]
    found = []
    if any(name.startswith("generator.encoder.") for name in names):
        found.append(("mmagic", "completion"))
    if any(name.startswith("disc.global_disc.") for name in names):
        found.append(("mmagic", "discriminator"))
    if "conv1.weight" in names and "deconv13.weight" in names:
        found.append(("glcic_pytorch", "completion"))
    if any(name.startswith("model_ld.") for name in names):
        found.append(("glcic_pytorch", "discriminator"))
    if not found:
        raise LayoutError(f"its names belong to no known layout ({', '.join(names[:4]) or 'there are none'})")
    return found


def convert(content, source, network, settings=None):
    """Build a network of this package with published weights.

    Args:
        content: what `torch7.read` or `torch_checkpoint.read` returned.
        source: name in `convert.SOURCES`.
        network: "completion" or "discriminator".
        settings: for a completion network of `glcic_pytorch`: dict of its config.json, with `mpv`.

    Returns:
        (Keras model, metadata for `model_file.save`).

    Raises:
        LayoutError: a layer is missing, or has another shape or kind.
    """
    builders = {
        ("torch7", "completion"): lambda: torch7_release.completion(content),
        ("glcic_pytorch", "completion"): lambda: glcic_pytorch.completion(Tensors(_state(content)), settings),
        ("glcic_pytorch", "discriminator"): lambda: glcic_pytorch.discriminator(Tensors(_state(content))),
        ("mmagic", "completion"): lambda: mmagic.completion(Tensors(_state(content), "generator.")),
        ("mmagic", "discriminator"): lambda: mmagic.discriminator(Tensors(_state(content), "disc.")),
    }
    if (source, network) not in builders:
        raise LayoutError(f"{source} publishes no {network} network")
    model = builders[source, network]()
    metadata = {"source": source, "licence": LICENCES[source], "network": network}
    holes = _TRAINED_HOLES.get(source) or _holes_of(settings)
    if network == "completion" and holes:
        metadata |= {"hole_min_px": holes[0], "hole_max_px": holes[1]}
    return model, metadata


def _holes_of(settings):
    sides = [(settings or {}).get(f"hole_{end}_{side}") for end in ("min", "max") for side in ("h", "w")]
    return (min(sides), max(sides)) if all(isinstance(side, int) and side > 0 for side in sides) else None


def _state(content):
    """The named tensors of a checkpoint, which may hold them in an entry of their own."""
    state = content.get("state_dict")
    return state if isinstance(state, dict) else content
