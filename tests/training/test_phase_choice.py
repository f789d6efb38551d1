"""Which stages a call trains, as a table: phases of 10 steps each."""

import dataclasses

import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.configs import default
from glcic_tf.training.phase_choice import phase_ends, stages_to_do
from glcic_tf.training.stages import resolve, to_dict


def config():
    config = default.get_config()
    config.stages = default.stages(
        config,
        small=default.stage("completion", steps=4),
        large=default.stage("completion", steps=6),
        d=default.stage("discriminator", steps=10),
        joint=default.stage("joint", steps=10),
    )
    return config


STAGES = resolve(config())
MODEL = {"begun": False, "init_from": "model.keras"}


@pytest.mark.parametrize(
    ("phase", "step", "options", "expected"),
    [
        ("all", 0, {"begun": False}, ["small", "large", "d", "joint"]),
        ("all", 4, {}, ["large", "d", "joint"]),
        ("all", 19, {}, ["d", "joint"]),
        ("all", 30, {}, []),
        ("completion", 0, {"begun": False}, ["small", "large"]),
        ("completion", 3, {}, ["small", "large"]),
        ("completion", 10, {}, []),
        ("discriminator", 10, {}, ["d"]),
        ("discriminator", 25, {}, []),
        ("joint", 29, {}, ["joint"]),
        ("joint", 30, {}, []),
        ("discriminator", 0, MODEL, ["d"]),
        ("joint", 0, MODEL, ["joint"]),
        ("all", 0, MODEL, ["small", "large", "d", "joint"]),
    ],
)
def test_stages_of_a_call(phase, step, options, expected):
    options = {"begun": True} | options
    assert [stage.name for stage in stages_to_do(STAGES, phase, step, "run", **options)] == expected


@pytest.mark.parametrize(
    ("phase", "step", "options", "message"),
    [
        ("first", 0, {}, "--phase=first: expected one of completion, discriminator, joint or all"),
        ("joint", 0, {"begun": False}, "--phase=joint needs a trained completion network, and run holds none"),
        ("joint", 12, {}, r"the run in run is in its discriminator phase \(step 12 of 20\); run --phase=disc"),
        ("joint", 3, MODEL | {"begun": True}, r"is in its completion phase \(step 3 of 4\)"),
    ],
)
def test_what_cannot_be_is_told(phase, step, options, message):
    with pytest.raises(UserError, match=message):
        stages_to_do(STAGES, phase, step, "run", **{"begun": True} | options)


def test_a_phase_that_the_config_or_the_bundle_lacks():
    with pytest.raises(UserError, match="--phase=joint: the config has no stage of this phase"):
        stages_to_do(STAGES[:3], "joint", 0, "run", begun=True)
    ends = phase_ends(to_dict(config()))
    assert ends == {"completion": 10, "discriminator": 20, "joint": 30}
    assert stages_to_do(STAGES[2:3], "completion", 10, "run", True, ends=ends) == []
    with pytest.raises(UserError, match="--phase=joint: the bundle holds no stage of this phase; export it with"):
        stages_to_do(STAGES[2:3], "joint", 10, "run", True, ends=ends)


def test_asking_changes_nothing():
    before = [dataclasses.asdict(stage) for stage in STAGES]
    for phase in ("all", "completion", "discriminator"):
        stages_to_do(STAGES, phase, 0, "run", **MODEL)
    assert before == [dataclasses.asdict(stage) for stage in STAGES]
