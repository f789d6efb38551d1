"""GLCIC on the Context Encoder's task, to compare the two: the central 64 of 128 px, on the same photos.

    glcic train --config centre --data_dir photos/ --workdir run/

The examples are exactly those of configs/context_encoder.py. As in the paper's Algorithm 1, training starts with the
squared error alone, continues with D alone and ends with both; as in configs/compact.py, R1 and the non-saturating loss
keep D from winning at once. The steps, of which the joint phase has a quarter, and Adam with cosine decay were chosen
here.
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
