"""From a config to the stages of a run: phases as data (paper, Algorithm 1), checked before anything starts."""

import dataclasses

from glcic_tf.common.errors import UserError, first_line
from glcic_tf.data.random_holes import HOLE_KINDS, HoleSpec
from glcic_tf.training import network_checks
from glcic_tf.training.settings import (
    ADVERSARIAL_FORMS,
    BEST_FIGURES,
    LOSS_MEANS,
    OPTIMIZERS,
    POLICIES,
    SCHEDULES,
    OptimizerSpec,
)

PHASES = ("completion", "discriminator", "joint")
# Fields that decide how training runs and what is kept and shown, not what is trained: a resumed run may change them.
FREE_FIELDS = (
    "precision",
    "accumulate_steps",
    "steps_per_loop",
    "jit_compile",
    "log_every_steps",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
    "checkpoints_kept",
    "keep_best",
    "sample_every_steps",
    "sample_photos",
    "data.workers",
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of one phase with everything that may differ from stage to stage; units as in configs/default.py.

    `start` is the run's step at which the stage begins, `first_example` the number of examples drawn before it.
    """

    name: str
    index: int
    phase: str
    start: int
    steps: int
    first_example: int
    image_size: int
    patch_size: int
    short_edge_min_px: int
    short_edge_max_px: int
    batch_size: int
    known_weight: float
    known_weight_end: float
    loss_mean: str
    adversarial_weight: float
    adversarial_form: str
    feature_matching_weight: float
    r1_gamma: float
    hole: HoleSpec
    optimizer: OptimizerSpec
    discriminator_optimizer: OptimizerSpec

    @property
    def end(self):
        """The run's step at which the stage is over."""
        return self.start + self.steps


_PLACE = ("name", "index", "phase", "start", "steps", "first_example")
# Fields that each stage may have its own value of; each is a field of the config too.
STAGE_FIELDS = tuple(field.name for field in dataclasses.fields(Stage) if field.name not in _PLACE)
# Fields that are groups of fields, and their classes.
GROUPS = {"hole": HoleSpec, "optimizer": OptimizerSpec, "discriminator_optimizer": OptimizerSpec}


def resolve(config):
    """Make the stages of a config and check it.

    Args:
        config: a ConfigDict with the fields of configs/default.py.

    Returns:
        list of Stage, in their order.

    Raises:
        UserError: a field has an invalid value, or two fields contradict each other.
    """
    try:
        return _resolve(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"config: {type(error).__name__}: {first_line(error)}; a field is missing or of another type than in "
            "configs/default.py, which every config should start from."
        ) from error


def _resolve(config):
    base = config.copy_and_resolve_references().to_dict()
    stages, step, example = [], 0, 0
    if not base["stages"]:
        raise UserError("config.stages is empty: a run needs at least one stage.")
    for index, name in enumerate(config.stages):  # in their order, which to_dict() would sort
        own = base["stages"][name]
        values = {field: _inherit(own.get(field), base.get(field)) for field in (*STAGE_FIELDS, "phase", "steps")}
        values |= {field: spec(**values[field]) for field, spec in GROUPS.items()}
        stage = Stage(name=name, index=index, start=step, first_example=example, **values)
        _check_stage(stage)
        stages.append(stage)
        step, example = stage.end, example + stage.steps * stage.batch_size
    network_checks.check(base, stages)
    _check_run(base)
    check_replicas(stages, 1, base["accumulate_steps"])
    return stages


def check_replicas(stages, replicas, accumulate_steps=1):
    """Raise UserError if a stage's batch cannot be divided evenly among the replicas and the parts of a step."""
    shares = [f"the {replicas} replicas"] if replicas > 1 else []
    shares += [f"config.accumulate_steps={accumulate_steps}"] if accumulate_steps > 1 else []
    for stage in stages:
        if stage.batch_size % (replicas * accumulate_steps):
            raise UserError(
                f"config: stage {stage.name}: batch_size {stage.batch_size} is not divisible by "
                f"{' times '.join(shares)}; choose a multiple of {replicas * accumulate_steps}."
            )


def contradictions(then, now, step):
    """Find where a run's config contradicts the one that it was started with.

    Args:
        then, now: resolved configs as nested dicts.
        step: steps that the run has done. The length of stages that are not over yet may change, and stages may be
            added after the last one.

    Returns:
        list of (field, value then, value now).
    """
    stages = list(then["stages"]), list(now["stages"])
    moved = [("stages", *stages)] if stages[0] != stages[1] and set(stages[0]) == set(stages[1]) else []
    if stages[1][: len(stages[0])] == stages[0]:
        now = now | {"stages": {name: now["stages"][name] for name in stages[0]}}
    then = {"network": "glcic"} | then  # older runs lack the field, when there was no other network
    then, now = _flatten(then), _flatten(now)
    order = [f for f in then if f.startswith("stages.") and f.endswith(".phase")]
    end, running = 0, set()
    for field in order:
        steps = field.replace(".phase", ".steps")
        end += then[steps]
        if end > step and now.get(steps, 0) > step - (end - then[steps]):
            running.add(steps)
    missing = object()
    return moved + [
        (field, then.get(field, "absent"), now.get(field, "absent"))
        for field in sorted(then.keys() | now.keys())
        if then.get(field, missing) != now.get(field, missing) and field not in FREE_FIELDS and field not in running
    ]


def to_dict(config):
    """The resolved config as a nested dict of JSON's types, the stages in their order."""
    result = config.copy_and_resolve_references().to_dict()
    result["stages"] = {name: result["stages"][name] for name in config.stages}
    result["data"]["mean_pixel"] = list(result["data"]["mean_pixel"])
    return result


def _inherit(own, base):
    if isinstance(base, dict):
        return {key: _inherit((own or {}).get(key), value) for key, value in base.items()}
    return base if own is None else own


def _flatten(tree, prefix=""):
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _check_stage(s):
    def fail(message):
        raise UserError(f"config: stage {s.name}: {message}")

    def one_of(field, value, known):
        if value not in known:
            fail(f"{field} is {value!r}; expected one of {', '.join(known)}.")

    def at_least(field, value, bound):
        if not value >= bound:
            fail(f"{field} is {value}; expected at least {bound}.")

    def ordered(low_field, low, high_field, high):
        if low > high:
            fail(f"{low_field} {low} is larger than {high_field} {high}.")

    hole = s.hole
    one_of("phase", s.phase, PHASES)
    one_of("loss_mean", s.loss_mean, LOSS_MEANS)
    one_of("adversarial_form", s.adversarial_form, ADVERSARIAL_FORMS)
    one_of("hole.kind", hole.kind, HOLE_KINDS)
    at_least("steps", s.steps, 1)
    at_least("batch_size", s.batch_size, 1)
    at_least("image_size", s.image_size, 8)
    at_least("patch_size", s.patch_size, 4)
    if s.image_size % 4:
        fail(f"image_size {s.image_size} is not a multiple of 4.")
    if s.patch_size > s.image_size:
        fail(f"patch_size {s.patch_size} is larger than image_size {s.image_size}.")
    if s.short_edge_min_px < s.image_size:
        fail(f"short_edge_min_px {s.short_edge_min_px} is smaller than image_size {s.image_size}.")
    ordered("short_edge_min_px", s.short_edge_min_px, "short_edge_max_px", s.short_edge_max_px)
    for field in ("known_weight", "known_weight_end", "adversarial_weight", "feature_matching_weight", "r1_gamma"):
        at_least(field, getattr(s, field), 0)
    at_least("hole.count_min", hole.count_min, 1)
    ordered("hole.count_min", hole.count_min, "hole.count_max", hole.count_max)
    if hole.kind in ("rectangle", "centre", "mixed"):
        at_least("hole.min_px", hole.min_px, 1)
        ordered("hole.min_px", hole.min_px, "hole.max_px", hole.max_px)
        if hole.max_px > s.patch_size:
            fail(f"hole.max_px {hole.max_px} is larger than patch_size {s.patch_size}, so the patch would not hold it.")
    if hole.kind != "rectangle":
        ordered("hole.area_min", hole.area_min, "hole.area_max", hole.area_max)
        ordered("hole.brush_min_px", hole.brush_min_px, "hole.brush_max_px", hole.brush_max_px)
        at_least("hole.brush_min_px", hole.brush_min_px, 1)
        ordered("hole.thin_min_px", hole.thin_min_px, "hole.thin_max_px", hole.thin_max_px)
        at_least("hole.thin_min_px", hole.thin_min_px, 1)
        if not 0 < hole.area_min <= hole.area_max < 1:
            fail(f"hole.area_min {hole.area_min}, area_max {hole.area_max}: expected shares between 0 and 1.")
    for field in ("optimizer", "discriminator_optimizer"):
        spec = getattr(s, field)
        one_of(f"{field}.name", spec.name, OPTIMIZERS)
        one_of(f"{field}.schedule", spec.schedule, SCHEDULES)
        for name in ("learning_rate", "epsilon"):
            if not getattr(spec, name) > 0:
                fail(f"{field}.{name} is {getattr(spec, name)}; expected a number above 0.")
        for name in ("rho", "beta_1", "beta_2"):
            if not 0 <= getattr(spec, name) < 1:
                fail(f"{field}.{name} is {getattr(spec, name)}; expected a number from 0 to below 1.")
        at_least(f"{field}.warmup_steps", spec.warmup_steps, 0)
        at_least(f"{field}.clip_norm", spec.clip_norm, 0)
        if not 0 <= spec.final_fraction <= 1:
            fail(f"{field}.final_fraction is {spec.final_fraction}; expected a share between 0 and 1.")


def _check_run(base):
    def fail(message):
        raise UserError(f"config.{message}")

    if not 0 <= base["seed"] < 2**31:  # NumPy's generators accept no others
        fail(f"seed is {base['seed']}; expected 0 to {2**31 - 1}.")
    if base["precision"] not in POLICIES:
        fail(f"precision is {base['precision']!r}; expected one of {', '.join(POLICIES)}.")
    for field in ("accumulate_steps", "steps_per_loop", "log_every_steps", "sample_every_steps", "checkpoints_kept"):
        if base[field] < 1:
            fail(f"{field} is {base[field]}; expected at least 1.")
    if base["checkpoint_every_steps"] <= 0 and base["checkpoint_every_minutes"] <= 0:
        fail("checkpoint_every_steps and checkpoint_every_minutes are both 0; set one of them.")
    if not 0 < base["width"] <= 8 or not 0 < base["discriminator"]["width"] <= 8:
        fail("width and discriminator.width: expected a factor between 0 and 8.")
    if not (base["discriminator"]["use_global"] or base["discriminator"]["use_local"]):
        fail("discriminator: use_global and use_local are both False; D needs at least one tower.")
    for field in ("global_convolutions", "local_convolutions"):
        if not 0 <= base["discriminator"][field] <= 12:
            fail(f"discriminator.{field} is {base['discriminator'][field]}; expected 0 (automatic) to 12.")
    for field, bound in (("mean_photos", 1), ("validation_photos", 0), ("workers", 0)):
        if base["data"][field] < bound:
            fail(f"data.{field} is {base['data'][field]}; expected at least {bound}.")
    if base["keep_best"] and base["keep_best"] not in BEST_FIGURES:
        fail(f"keep_best is {base['keep_best']!r}; expected one of {', '.join(BEST_FIGURES)}, or nothing.")
    if not 0 <= base["average_decay"] < 1:
        fail(f"average_decay is {base['average_decay']}; expected 0 (no average) to below 1.")
    mean = base["data"]["mean_pixel"]
    if len(mean) != 3 or not (all(value < 0 for value in mean) or all(0 <= value <= 1 for value in mean)):
        fail(f"data.mean_pixel is {tuple(mean)}; expected R, G, B in [0, 1], or negative numbers to measure it.")
