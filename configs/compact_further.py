"""The further training of the weights in this repository, after configs/compact.py: sharper, and without its grid.

    glcic train --config compact_further --config.init_from=run/joint.keras --data_dir photos/ --workdir further/

Equal phases remove the grid that the deconvolutions draw, at no cost. The model files hold a moving average of C. Some
holes are thinner, such as wires and writing, and D's features are matched. Alpha is as large as it takes for holes to
get sharp while D holds out, and falls at the end.

Training took two runs: before `discriminator_anew` D was initialised again, the moving average was restarted at 0.99
(0.998 before), and the joint stage before that had been set up for 900 steps. The weights that ship are 0.9 of the last
stage's and 0.1 of those before `discriminator_anew`. MODEL_CARD.md has the figures.
"""

from glcic_tf.configs import compact, default


def get_config():
    config = compact.get_config()
    config.equal_phases = True
    config.average_decay = 0.99
    config.feature_matching_weight = 0.01
    config.stages = default.stages(
        config,
        completion_128=default.stage(
            "completion",
            steps=1600,
            **default.size(128) | dict(hole=compact.mixed_holes() | dict(min_px=16, max_px=64)),
            batch_size=config.get_ref("batch_size") * 2,
            optimizer=default.adam(6e-4, warmup_steps=50, final_fraction=0.1),
        ),
        completion_256=default.stage(
            "completion",
            steps=1200,
            hole=compact.mixed_holes(),
            optimizer=default.adam(4e-4, warmup_steps=50, final_fraction=0.05),
        ),
        discriminator=_discriminator(steps=60),
        joint=_joint(steps=405, adversarial_weight=0.003, completion=1e-4, final_fractions=(0.6, 1.0)),
        discriminator_anew=_discriminator(steps=70),
        joint_anew=_joint(steps=600, adversarial_weight=0.003, completion=1e-4, final_fractions=(0.6, 1.0)),
        joint_settled=_joint(steps=300, adversarial_weight=0.0012, completion=6e-5, final_fractions=(0.02, 0.5)),
        joint_more=_joint(steps=1500, adversarial_weight=0.004, completion=1e-4, final_fractions=(0.3, 1.0)),
        joint_calm=_joint(steps=500, adversarial_weight=0.002, completion=3e-5, final_fractions=(0.02, 0.5)),
    )
    return config


def _discriminator(steps):
    return default.stage(
        "discriminator",
        steps=steps,
        hole=compact.mixed_holes(),
        discriminator_optimizer=default.adam(3e-4, beta_1=0.5, final_fraction=1.0),
    )


def _joint(steps, adversarial_weight, completion, final_fractions):
    return default.stage(
        "joint",
        steps=steps,
        hole=compact.mixed_holes(),
        adversarial_weight=adversarial_weight,
        optimizer=default.adam(completion, beta_1=0.5, warmup_steps=10, final_fraction=final_fractions[0]),
        discriminator_optimizer=default.adam(3e-4, beta_1=0.5, final_fraction=final_fractions[1]),
    )
