"""A small network trained on a CPU in a working day: width 0.5, growing from 64 to 256 px.

    glcic train --config compact --data_dir photos/ --workdir run/

This was the first training of the weights in this repository; configs/compact_further.py continued it. MODEL_CARD.md
has the data, the times on 2 CPU cores and the figures. After the first three stages, an hour and a quarter, the network
is 1.7 dB better than Telea's method inside the hole; the rest was added once the recipe had proved right, so the crops
grow from 64 px a second time, with more steps.

It departs from the paper to need less compute: half the channels; crops that grow; a term over the known pixels, which
teaches the encoder and decoder at first and fades to 0 before the joint phase; Adam with cosine decay instead of
ADADELTA; half of the crops are mirrored; small photos are not enlarged. The last stages have one or two rectangles,
blobs and strokes, like the holes that people paint. The non-saturating loss and R1 keep D from winning at once. Alpha
rises until holes get sharp, at the cost of a grid drawn over them, and falls until most of the grid is gone.
"""

from glcic_tf.configs import default


def get_config():
    config = default.get_config()
    config.precision = "auto"
    config.width = config.discriminator.width = 0.5
    config.data.enlarge = False
    config.data.mirror = True
    config.data.validation_photos = 64
    config.update(default.size(256))
    config.batch_size = 8
    config.adversarial_form = "non_saturating"
    config.r1_gamma = 0.1
    config.stages = default.stages(
        config,
        completion_64=_completion_64(config, steps=1800),
        completion_128=_completion_128(config, steps=1300),
        completion_256=default.stage(
            "completion",
            steps=800,
            known_weight=0.2,
            optimizer=default.adam(5e-4, warmup_steps=20, final_fraction=0.05),
        ),
        completion_64_more=_completion_64(config, steps=7000),
        completion_128_more=_completion_128(config, steps=5000),
        completion_256_more=default.stage(
            "completion",
            steps=3000,
            known_weight=0.2,
            hole=mixed_holes(),
            optimizer=default.adam(5e-4, warmup_steps=30, final_fraction=0.03),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=100,
            hole=mixed_holes(),
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=1.0),
        ),
        joint=_joint(steps=274, adversarial_weight=0.0004, discriminator=2e-4, final_fractions=(0.1, 0.1)),
        joint_sharper=_joint(steps=269, adversarial_weight=0.0016, discriminator=3e-4, final_fractions=(0.1, 0.3)),
        joint_sharpest=_joint(steps=170, adversarial_weight=0.002, discriminator=3e-4, final_fractions=(0.2, 0.5)),
        # By now D has learnt enough about the grid that C draws to make C drop most of it again.
        joint_settled=_joint(steps=170, adversarial_weight=0.0008, discriminator=3e-4, final_fractions=(0.02, 0.5)),
    )
    config.steps_per_loop = 5
    config.log_every_steps = 50
    config.checkpoint_every_steps = 0
    config.checkpoint_every_minutes = 4.0
    config.sample_every_steps = 200
    return config


def mixed_holes():
    """Rectangles, blobs and strokes in 256 x 256 px."""
    return dict(
        kind="mixed",
        count_max=2,
        min_px=32,
        max_px=128,
        area_min=0.05,
        area_max=0.3,
        brush_min_px=12,
        brush_max_px=48,
    )


def _completion_64(config, steps):
    return default.stage(
        "completion",
        steps=steps,
        **default.size(64),
        batch_size=config.get_ref("batch_size") * 4,
        known_weight=1.0,
        known_weight_end=1.0,
        optimizer=default.adam(1e-3, warmup_steps=50, final_fraction=0.3),
    )


def _completion_128(config, steps):
    return default.stage(
        "completion",
        steps=steps,
        **default.size(128),
        batch_size=config.get_ref("batch_size") * 2,
        known_weight=1.0,
        known_weight_end=0.2,
        optimizer=default.adam(1e-3, warmup_steps=20, final_fraction=0.2),
    )


def _joint(steps, adversarial_weight, discriminator, final_fractions):
    return default.stage(
        "joint",
        steps=steps,
        hole=mixed_holes(),
        adversarial_weight=adversarial_weight,
        optimizer=default.adam(1e-4, beta_1=0.5, warmup_steps=10, final_fraction=final_fractions[0]),
        discriminator_optimizer=default.adam(discriminator, beta_1=0.5, final_fraction=final_fractions[1]),
    )
