"""GLCIC on the Context Encoder's task, to compare the two: the central 64 of 128 px, on the same photos.

    glcic train --config centre --data_dir photos/ --workdir run/

The task is that of configs/context_encoder.py. Training starts with the squared error alone, at 64 px and then at 128,
continues with D alone and ends with both, as in the paper's Algorithm 1. The recipe is that of configs/compact.py and
configs/compact_further.py: at first the known pixels count too, since without them the holes stay grey for thousands of
steps, and the deconvolutions' phases stay equal, since otherwise the joint phase draws a grid.
"""

from glcic_tf.configs import context_encoder, default


def get_config():
    config = default.get_config()
    config.update(context_encoder.task())
    config.adversarial_form = "non_saturating"
    config.adversarial_weight = 0.003
    config.feature_matching_weight = 0.01
    config.r1_gamma = 0.1
    config.equal_phases = True
    config.average_decay = 0.99
    config.stages = default.stages(
        config,
        completion_64=default.stage(
            "completion",
            steps=700,
            **default.size(64) | dict(hole=dict(kind="centre", min_px=32, max_px=32)),
            batch_size=config.get_ref("batch_size") * 4,
            known_weight=1.0,
            known_weight_end=0.2,
            optimizer=default.adam(1e-3, warmup_steps=50, final_fraction=0.1),
        ),
        completion=default.stage(
            "completion",
            steps=350,
            known_weight=0.2,
            optimizer=default.adam(5e-4, warmup_steps=20, final_fraction=0.05),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=60,
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=1.0),
        ),
        joint=default.stage(
            "joint",
            steps=150,
            optimizer=default.adam(1e-4, beta_1=0.5, warmup_steps=10, final_fraction=0.2),
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=0.2),
        ),
    )
    config.checkpoint_every_minutes = 4.0
    return config
