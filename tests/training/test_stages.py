"""Configs: what they resolve to, and what is refused before anything starts."""

import importlib
import json
from pathlib import Path

import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.configs import compact, default, places2, tiny
from glcic_tf.networks import PACKAGE
from glcic_tf.training.stages import FREE_FIELDS, check_replicas, contradictions, resolve, to_dict

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py") if path.stem != "__init__")


def stages_of(config, **changes):
    """Resolve with changes; `__` stands for the dots in a field's name."""
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return resolve(config)


def refusal(config, **changes):
    with pytest.raises(UserError) as error:
        stages_of(config, **changes)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_and_resolves(name):
    module = importlib.import_module(f"glcic_tf.configs.{name}")
    config = module.get_config()
    stages = resolve(config)
    assert [stage.index for stage in stages] == list(range(len(stages)))
    assert stages[-1].phase == "joint"
    resolved = to_dict(config)
    assert list(resolved["stages"]) == [stage.name for stage in stages]
    assert contradictions(json.loads(json.dumps(resolved)), resolved, step=1) == []
    if name != "default":
        assert f"glcic train --config {name} " in module.__doc__
    with pytest.raises(AttributeError):
        config.batchsize = 8


def test_places2_has_the_papers_numbers():
    config = places2.get_config()
    completion, discriminator, joint = stages = resolve(config)
    assert [(s.phase, s.start, s.steps, s.end) for s in stages] == [
        ("completion", 0, 90_000, 90_000),
        ("discriminator", 90_000, 10_000, 100_000),
        ("joint", 100_000, 400_000, 500_000),
    ]
    assert [s.first_example for s in stages] == [0, 8_640_000, 9_600_000]
    for stage in stages:
        assert (stage.image_size, stage.patch_size, stage.batch_size) == (256, 128, 96)
        assert (stage.short_edge_min_px, stage.short_edge_max_px) == (256, 384)
        assert (stage.hole.kind, stage.hole.count_min, stage.hole.count_max) == ("rectangle", 1, 1)
        assert (stage.hole.min_px, stage.hole.max_px) == (96, 128)
        assert (stage.known_weight, stage.known_weight_end) == (0, 0)
        assert (stage.adversarial_weight, stage.adversarial_form) == (0.0004, "minimax")
        for optimizer in (stage.optimizer, stage.discriminator_optimizer):
            assert (optimizer.name, optimizer.learning_rate, optimizer.rho, optimizer.epsilon) == (
                "adadelta",
                1.0,
                0.95,
                1e-6,
            )
            assert (optimizer.schedule, optimizer.warmup_steps) == ("constant", 0)
    assert (config.width, config.discriminator.width) == (1, 1)
    assert config.discriminator.use_global and config.discriminator.use_local


def test_celeba_has_the_published_sizes():
    config = importlib.import_module("glcic_tf.configs.celeba").get_config()
    for stage in resolve(config):
        assert (stage.short_edge_min_px, stage.short_edge_max_px) == (160, 178)
        assert (stage.image_size, stage.patch_size) == (160, 96)
        assert (stage.hole.min_px, stage.hole.max_px) == (48, 96)
    assert (config.discriminator.global_convolutions, config.discriminator.local_convolutions) == (5, 5)


def test_facade_starts_from_the_shipped_weights():
    config = importlib.import_module("glcic_tf.configs.facade").get_config()
    assert config.init_from == PACKAGE
    assert config.width == compact.get_config().width  # the width that the weights were trained with
    stages = resolve(config)
    assert {(s.image_size, s.patch_size, s.hole.min_px, s.hole.max_px) for s in stages} == {(256, 128, 96, 128)}
    # C's averages are kept from stage to stage; the discriminator phase leaves them alone.
    assert {s.optimizer.name for s in stages if s.phase != "discriminator"} == {"adam"}


def test_stages_inherit_what_they_leave_alone():
    config = default.get_config()
    config.stages = default.stages(
        config,
        small=default.stage(
            "completion",
            steps=10,
            image_size=64,
            patch_size=32,
            batch_size=8,
            hole=dict(min_px=4, max_px=6),
            known_weight=0.0,
        ),
        full=default.stage("completion", steps=5, optimizer=default.adam(1e-3, warmup_steps=2)),
    )
    small, full = stages_of(
        config, known_weight=0.5, hole__count_max=3, short_edge_min_px=300, optimizer__rho=0.9, batch_size=6
    )
    assert (small.hole.min_px, small.hole.max_px, small.hole.count_max, small.hole.kind) == (4, 6, 3, "rectangle")
    assert (full.hole.min_px, full.hole.max_px, full.hole.count_max) == (96, 128, 3)
    assert (small.known_weight, full.known_weight) == (0.0, 0.5)  # a stage's own 0 is a value as well
    assert (small.short_edge_min_px, full.short_edge_min_px) == (300, 300)
    assert (small.optimizer.name, small.optimizer.rho) == ("adadelta", 0.9)
    assert (full.optimizer.name, full.optimizer.learning_rate, full.optimizer.warmup_steps) == ("adam", 1e-3, 2)
    assert (small.batch_size, full.batch_size) == (8, 6)
    assert (full.start, full.end, full.first_example) == (10, 15, 80)


def test_batch_size_of_compact_scales_all_its_stages():
    assert [s.batch_size for s in stages_of(compact.get_config(), batch_size=4)] == [16, 8, 4, 16, 8, *[4] * 6]
    one = stages_of(compact.get_config(), batch_size=4, stages__completion_64__batch_size=6)
    assert [s.batch_size for s in one] == [6, 8, 4, 16, 8, *[4] * 6]


def test_sizes_keep_the_papers_proportions():
    stage = resolve(tiny.get_config())[0]
    assert (stage.image_size, stage.patch_size, stage.hole.min_px, stage.hole.max_px) == (32, 16, 12, 16)
    assert (stage.short_edge_min_px, stage.short_edge_max_px) == (32, 48)
    assert default.size(256) == dict(
        image_size=256, patch_size=128, short_edge_min_px=256, short_edge_max_px=384, hole=dict(min_px=96, max_px=128)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(patch_size=264), "stage completion: patch_size 264 is larger than image_size 256"),
        (dict(hole__max_px=130), "stage completion: hole.max_px 130 is larger than patch_size 128"),
        (dict(stages__joint__hole__max_px=129), "stage joint: hole.max_px 129 is larger than patch_size 128"),
        (dict(hole__min_px=129), "hole.min_px 129 is larger than hole.max_px 128"),
        (dict(hole__min_px=0), "hole.min_px is 0; expected at least 1"),
        (dict(hole__count_min=2), "hole.count_min 2 is larger than hole.count_max 1"),
        (dict(hole__count_min=0), "hole.count_min is 0; expected at least 1"),
        (
            dict(hole__kind="circle"),
            "hole.kind is 'circle'; expected one of rectangle, centre, blob, stroke, thin, free_form",
        ),
        (dict(hole__kind="mixed", hole__max_px=130), "hole.max_px 130 is larger than patch_size 128"),
        (dict(hole__kind="mixed", hole__brush_min_px=0), "hole.brush_min_px is 0; expected at least 1"),
        (dict(hole__kind="blob", hole__area_min=0.5), "hole.area_min 0.5 is larger than hole.area_max 0.3"),
        (dict(hole__kind="blob", hole__area_max=1.0), "area_max 1.0: expected shares between 0 and 1"),
        (dict(hole__kind="stroke", hole__brush_min_px=50), "hole.brush_min_px 50 is larger than hole.brush_max_px 40"),
        (dict(hole__kind="stroke", hole__brush_min_px=0), "hole.brush_min_px is 0; expected at least 1"),
        (dict(hole__kind="thin", hole__thin_min_px=9), "hole.thin_min_px 9 is larger than hole.thin_max_px 8"),
        (dict(hole__kind="thin", hole__thin_min_px=0), "hole.thin_min_px is 0; expected at least 1"),
        (dict(short_edge_min_px=255), "short_edge_min_px 255 is smaller than image_size 256"),
        (dict(short_edge_min_px=400), "short_edge_min_px 400 is larger than short_edge_max_px 384"),
        (dict(image_size=254), "image_size 254 is not a multiple of 4"),
        (dict(image_size=4, patch_size=4), "image_size is 4; expected at least 8"),
        (dict(batch_size=0), "batch_size is 0; expected at least 1"),
        (dict(stages__joint__steps=0), "stage joint: steps is 0; expected at least 1"),
        (
            dict(stages__joint__phase="adversarial"),
            "phase is 'adversarial'; expected one of completion, discriminator, joint",
        ),
        (dict(adversarial_form="hinge"), "adversarial_form is 'hinge'; expected one of minimax, non_saturating"),
        (dict(loss_mean="patch"), "loss_mean is 'patch'; expected one of hole, image"),
        (dict(feature_matching_weight=-1.0), "feature_matching_weight is -1.0; expected at least 0"),
        (dict(optimizer__clip_norm=-1.0), "optimizer.clip_norm is -1.0; expected at least 0"),
        (dict(average_decay=1.0), "config.average_decay is 1.0; expected 0 (no average) to below 1"),
        (dict(keep_best="l1"), "config.keep_best is 'l1'; expected one of val_l1, val_psnr_hole, or nothing"),
        (dict(r1_gamma=-1.0), "r1_gamma is -1.0; expected at least 0"),
        (dict(adversarial_weight=-1.0), "adversarial_weight is -1.0; expected at least 0"),
        (dict(known_weight_end=float("nan")), "known_weight_end is nan; expected at least 0"),
        (dict(optimizer__name="sgd"), "optimizer.name is 'sgd'; expected one of adadelta, adam"),
        (dict(discriminator_optimizer__schedule="step"), "discriminator_optimizer.schedule is 'step'; expected one of"),
        (dict(optimizer__learning_rate=0.0), "optimizer.learning_rate is 0.0; expected a number above 0"),
        (dict(optimizer__epsilon=float("nan")), "optimizer.epsilon is nan; expected a number above 0"),
        (dict(optimizer__rho=1.0), "optimizer.rho is 1.0; expected a number from 0 to below 1"),
        (dict(optimizer__warmup_steps=-1), "optimizer.warmup_steps is -1; expected at least 0"),
        (dict(optimizer__final_fraction=1.5), "optimizer.final_fraction is 1.5; expected a share"),
        (
            dict(stages__joint__image_size=128, stages__joint__patch_size=128),
            "no discriminator stage before it has its image_size 128",
        ),
        (
            dict(stages__discriminator__phase="completion"),
            "stage joint: no discriminator stage before it has its image_size 256",
        ),
        (dict(stages__joint__phase="completion"), "stage joint: a completion stage comes after a discriminator stage"),
        (
            dict(discriminator__use_global=False, discriminator__use_local=False),
            "both False; D needs at least one tower",
        ),
        (
            dict(precision="float16"),
            "config.precision is 'float16'; expected one of float32, mixed_bfloat16, mixed_float16, auto",
        ),
        (dict(seed=-1), "config.seed is -1; expected 0 to 2147483647"),
        (dict(seed=2**31), "config.seed is 2147483648; expected 0 to 2147483647"),
        (dict(width=0.0), "width and discriminator.width: expected a factor between 0 and 8"),
        (dict(steps_per_loop=0), "config.steps_per_loop is 0; expected at least 1"),
        (dict(checkpoints_kept=0), "config.checkpoints_kept is 0; expected at least 1"),
        (dict(checkpoint_every_steps=0, checkpoint_every_minutes=0.0), "are both 0; set one of them"),
        (dict(data__mean_pixel=(0.5, 0.5)), "data.mean_pixel is (0.5, 0.5); expected R, G, B in [0, 1]"),
        (dict(data__mean_pixel=(124.0, 116.0, 104.0)), "expected R, G, B in [0, 1]"),
        (dict(data__mean_pixel=(0.5, -1.0, 0.5)), "expected R, G, B in [0, 1]"),
        (dict(data__mean_photos=0), "config.data.mean_photos is 0; expected at least 1"),
        (dict(data__validation_photos=-1), "config.data.validation_photos is -1; expected at least 0"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_contradictions_within_a_config_are_refused_in_one_line(changes, message):
    found = refusal(default.get_config(), **changes)
    assert message in found
    assert found.startswith("config")


def test_a_config_without_stages_is_refused():
    config = default.get_config()
    config.stages = default.stages(config)
    assert "config.stages is empty" in refusal(config)


def test_completion_after_joint_is_refused():
    config = default.get_config()
    config.stages = default.stages(
        config,
        completion=default.stage("completion", steps=1),
        discriminator=default.stage("discriminator", steps=1),
        joint=default.stage("joint", steps=1),
        again=default.stage("completion", steps=1),
    )
    assert "stage again: a completion stage comes after a joint stage" in refusal(config)


def test_a_second_size_needs_a_second_discriminator_stage():
    def config(*phases):
        config = default.get_config()
        sizes = {"small": default.size(64), "large": default.size(128)}
        named = {f"{phase}_{size}": default.stage(phase, steps=1, **sizes[size]) for phase, size in phases}
        config.stages = default.stages(config, **named)
        return config

    first = [("completion", "small"), ("discriminator", "small"), ("joint", "small")]
    grown = resolve(config(*first, ("discriminator", "large"), ("joint", "large")))
    assert [stage.image_size for stage in grown] == [64, 64, 64, 128, 128]
    assert "stage joint_large" in refusal(config(*first, ("joint", "large")))
    both = [("completion", "small"), ("discriminator", "small"), ("discriminator", "large"), ("joint", "small")]
    assert "stage joint_small" in refusal(config(*both))  # D was built anew for the large size


def test_misspelt_stage_fields_are_errors():
    config = default.get_config()
    with pytest.raises((AttributeError, KeyError)):
        default.stages(config, joint=default.stage("joint", steps=1, batchsize=3))
    with pytest.raises((AttributeError, KeyError)):
        default.stages(config, joint=default.stage("joint", steps=1, hole=dict(min=3)))


def test_batch_must_be_shared_evenly_by_the_replicas():
    stages = stages_of(default.get_config(), stages__joint__batch_size=90)
    check_replicas(stages, 6)
    check_replicas(stages, 1)
    with pytest.raises(
        UserError, match="stage joint: batch_size 90 is not divisible by the 4 replicas; choose a multiple of 4"
    ):
        check_replicas(stages, 4)
    check_replicas(stages, 2, accumulate_steps=3)
    found = "batch_size 90 is not divisible by the 6 replicas times config.accumulate_steps=2; choose a multiple of 12"
    with pytest.raises(UserError, match=f"stage joint: {found}"):
        check_replicas(stages, 6, accumulate_steps=2)


def test_parts_of_a_step_share_the_batch_evenly_whatever_the_replicas():
    config = default.get_config()
    config.accumulate_steps = 7
    found = "batch_size 96 is not divisible by config.accumulate_steps=7; choose a multiple of 7"
    assert f"stage completion: {found}" in refusal(config)
    config.accumulate_steps = 0
    assert "accumulate_steps is 0; expected at least 1" in refusal(config)
    config.accumulate_steps = 8
    resolve(config)


def changed(step, **changes):
    """Contradictions between tiny.py (40 steps a stage) as kept in a checkpoint at `step` and itself with changes."""
    then = json.loads(json.dumps(to_dict(tiny.get_config())))
    config = tiny.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return contradictions(then, to_dict(config), step)


def test_an_equal_config_contradicts_nothing():
    assert changed(step=50) == []


def test_what_changed_is_named_with_both_values():
    assert changed(step=50, batch_size=8) == [("batch_size", 4, 8)]
    assert changed(step=50, stages__joint__hole__max_px=14, seed=1) == [
        ("seed", 0, 1),
        ("stages.joint.hole.max_px", None, 14),
    ]
    assert changed(step=50, data__mean_pixel=(0.5, 0.5, 0.5)) == [("data.mean_pixel", [-1, -1, -1], [0.5, 0.5, 0.5])]


def test_fields_of_how_it_runs_may_change():
    values = dict(
        precision="mixed_bfloat16",
        accumulate_steps=2,
        steps_per_loop=3,
        jit_compile=True,
        log_every_steps=1,
        checkpoint_every_steps=7,
        checkpoint_every_minutes=0.5,
        checkpoints_kept=9,
        keep_best="val_l1",
        sample_every_steps=11,
        sample_photos=5,
        data__workers=2,
    )
    assert {name.replace("__", ".") for name in values} == set(FREE_FIELDS)
    assert changed(step=50, **values) == []


def test_length_of_stages_that_are_not_over_may_change():
    """At step 50 of 40 + 40 + 40: completion is over, discriminator has done 10, joint has not begun."""
    assert changed(step=50, stages__discriminator__steps=11, stages__joint__steps=1) == []
    assert changed(step=50, stages__discriminator__steps=100) == []
    assert changed(step=50, stages__completion__steps=41) == [("stages.completion.steps", 40, 41)]
    assert changed(step=50, stages__discriminator__steps=9) == [("stages.discriminator.steps", 40, 9)]
    assert changed(step=40, stages__completion__steps=41) == [("stages.completion.steps", 40, 41)]
    assert changed(step=39, stages__completion__steps=41) == []
    assert changed(step=0, stages__completion__steps=1) == []
    assert changed(step=120, stages__joint__steps=41) == [("stages.joint.steps", 40, 41)]


def test_stages_that_came_went_or_moved_contradict():
    then = to_dict(tiny.get_config())
    config = tiny.get_config()
    names = list(then["stages"])
    moved = {**then, "stages": {name: then["stages"][name] for name in reversed(names)}}
    assert contradictions(then, moved, 1) == [("stages", names, names[::-1])]
    config.stages = default.stages(config, completion=default.stage("completion", steps=40))
    gone = contradictions(then, to_dict(config), 1)
    assert ("stages.joint.phase", "joint", "absent") in gone
    without_first = {**then, "stages": {name: then["stages"][name] for name in names[1:]}}
    assert ("stages.completion.phase", "absent", "completion") in contradictions(without_first, then, 1)


def test_stages_may_be_added_after_the_last_one():
    then = to_dict(tiny.get_config())
    shorter = {**then, "stages": {name: then["stages"][name] for name in list(then["stages"])[:1]}}
    assert contradictions(shorter, then, 1) == []
    assert contradictions(shorter, then | {"seed": 1}, 1) == [("seed", 0, 1)]
