"""The post-processes by name: what a hole goes through once the network has completed it.

Nothing here needs TensorFlow, so flags are checked before it is imported.
"""

POSTPROCESSES = {
    "auto": "texture or poisson, by the model and the hole",
    "texture": "fill it with copies of the photo's own pixels, guided by the network",
    "poisson": "blend the hole into its surroundings (the paper's)",
    "none": "the network alone",
}
DEFAULT = "auto"


def described():
    """All of them in one sentence, for --help."""
    return "; ".join(f"{name}: {what}" for name, what in POSTPROCESSES.items()) + "."


def are_known(names):
    """Whether a list of names has at least one, and all are known: a validator of flags."""
    return len(names) > 0 and set(names) <= set(POSTPROCESSES)


EXPECTED = f"expected some of {', '.join(POSTPROCESSES)}"
