"""The names and settings that a stage may use, as plain data: no TensorFlow, so that every part can import them."""

import dataclasses

NETWORKS = ("glcic", "context_encoder")
OPTIMIZERS = ("adadelta", "adam")
SCHEDULES = ("constant", "cosine")
AUTO_POLICY = "auto"  # see `precision.choose`
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", AUTO_POLICY)
ADVERSARIAL_FORMS = ("minimax", "non_saturating")
LOSS_MEANS = ("hole", "image")  # what the squared error is a mean over
BEST_FIGURES = {"val_l1": -1, "val_psnr_hole": 1}  # figures that a best checkpoint can have; -1: lower is better


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """An optimiser and the course of its learning rate over a stage.

    Attributes:
        name: `adadelta` or `adam`.
        learning_rate: peak learning rate. ADADELTA's own form has 1.0; Keras' default of 0.001 looks frozen.
        rho: ADADELTA's decay of the running averages.
        epsilon: added inside the root (ADADELTA) or to it (Adam).
        beta_1, beta_2: Adam's decay of the running averages.
        schedule: `constant`, or `cosine` from the peak to `final_fraction` of it at the stage's end.
        warmup_steps: steps over which the learning rate rises from 0, at the stage's start.
        final_fraction: share of the peak that is left at the end of `cosine`.
        clip_norm: largest global norm of the gradients, summed over all replicas; larger ones are scaled down to it;
            0: no limit.
    """

    name: str = "adadelta"
    learning_rate: float = 1.0
    rho: float = 0.95
    epsilon: float = 1e-6
    beta_1: float = 0.9
    beta_2: float = 0.999
    schedule: str = "constant"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    clip_norm: float = 0.0
