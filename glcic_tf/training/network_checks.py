"""What the kind of networks (config.network) requires of a config and its stages. TensorFlow is not needed."""

from glcic_tf.common.errors import UserError
from glcic_tf.networks import frames
from glcic_tf.training.settings import NETWORKS

# Fields for GLCIC's discriminator only; other kinds of networks need their values in configs/default.py.
_OF_GLCIC = {
    "discriminator.use_global": True,
    "discriminator.use_local": True,
    "discriminator.global_convolutions": 0,
    "discriminator.local_convolutions": 0,
    "discriminator.init_from": "",
}


def check(base, stages):
    """Check a config.

    Args:
        base: the config as a nested dict.
        stages: list of stages.Stage.

    Raises:
        UserError: the networks cannot be trained with it.
    """
    kind = base["network"]
    if kind not in NETWORKS:
        raise UserError(f"config.network is {kind!r}; expected one of {', '.join(NETWORKS)}.")
    from_the_start = kind == "context_encoder"  # both of its networks are trained together, without earlier phases
    if from_the_start:
        _check_frame(kind, frames.CENTRE, base, stages)
    _check_order(stages, base["init_from"], from_the_start)


def _check_frame(kind, frame, base, stages):
    for field, value in _OF_GLCIC.items():
        group, name = field.split(".")
        if base[group][name] != value:
            raise UserError(f"config.{field}: config.network={kind} does not use it; leave it at {value!r}.")
    expected = {
        "image_size": frame.image_px,
        "patch_size": frame.hole_px,
        "feature_matching_weight": 0,
        "hole.kind": "centre",
        "hole.min_px": frame.hole_px,
        "hole.max_px": frame.hole_px,
    }
    for stage in stages:
        for field, value in expected.items():
            found = getattr(stage.hole, field[5:]) if field.startswith("hole.") else getattr(stage, field)
            if found != value:
                raise UserError(
                    f"config: stage {stage.name}: {field} is {found!r}; config.network={kind} only takes {value!r}."
                )


def _check_order(stages, init_from, from_the_start):
    """Completion comes first; joint needs a discriminator that had its own phase at the same sizes."""
    trained = None
    if stages[0].phase != "completion" and not init_from and not from_the_start:
        raise UserError(
            f"config: stage {stages[0].name}: the {stages[0].phase} phase needs a trained completion network; put a "
            "completion stage before it, or name a model file in init_from."
        )
    for before, stage in zip([None, *stages], stages, strict=False):
        sizes = (stage.image_size, stage.patch_size)
        if stage.phase == "completion" and before and before.phase != "completion":
            raise UserError(f"config: stage {stage.name}: a completion stage comes after a {before.phase} stage.")
        if stage.phase == "discriminator":
            trained = sizes
        if stage.phase == "joint" and trained != sizes and not from_the_start:
            raise UserError(
                f"config: stage {stage.name}: no discriminator stage before it has its image_size {sizes[0]} and "
                f"patch_size {sizes[1]}; add one, since D is built anew when its input size changes."
            )
