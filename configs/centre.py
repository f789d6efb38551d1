"""GLCIC at what a Context Encoder can do, to compare the two: the central 64 of 128 px, on the same photos.

    glcic train --config centre --data_dir photos/ --workdir run/

The examples are those of configs/context_encoder.py, one for one. The phases have the shares of the paper's Algorithm 1
in the order of the recipe in configs/compact.py: the squared error first, then D, then both, with what keeps D from
winning at once. Chosen here: the steps, of which the joint phase has a quarter, and Adam with cosine decay.
"""

from glcic_tf.configs import context_encoder, default


def get_config():
    config = default.get_config()
    config.update(context_encoder.task())
    config.adversarial_form = "non_saturating"
    config.adversarial_weight = 0.002
    config.r1_gamma = 0.1
    config.stages = default.stages(
        config,
        completion=default.stage(
            "completion",
            steps=1_400,
            optimizer=default.adam(1e-3, warmup_steps=50, final_fraction=0.05),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=100,
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=1.0),
        ),
        joint=default.stage(
            "joint",
            steps=500,
            optimizer=default.adam(1e-4, beta_1=0.5, warmup_steps=10, final_fraction=0.1),
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=0.3),
        ),
    )
    config.checkpoint_every_minutes = 4.0
    return config
