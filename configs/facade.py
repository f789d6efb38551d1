"""Fine-tune the weights in the repository, trained on scenes, on a small set of one kind: facades, 256 px.

    glcic train --config facade --data_dir photos/ --workdir run/

The paper fine-tuned its Places2 network in the same way on the 606 photos of CMP Facade. The sizes are the paper's (256
px crops, 128 px patch, holes of 96-128 px). Everything else was chosen here, to need little compute: width 0.5, that of
the weights; the steps (C adapts, then D catches up, then both: 20 minutes on 2 CPU cores); the batch; Adam with cosine
decay; mirrored crops; photos that are not enlarged; alpha, and R1 and the non-saturating loss, which keep D from
winning at once, as in configs/compact.py; equal phases against a grid, a moving average of C, and matching of D's
features.
"""

from glcic_tf.configs import default


def get_config():
    config = default.get_config()
    config.init_from = "package"
    config.precision = "auto"
    config.width = config.discriminator.width = 0.5
    config.data.enlarge = False
    config.data.mirror = True
    config.data.validation_photos = 64
    config.batch_size = 8
    config.adversarial_form = "non_saturating"
    config.r1_gamma = 0.1
    config.adversarial_weight = 0.002
    config.feature_matching_weight = 0.01
    config.equal_phases = True
    config.average_decay = 0.99
    config.stages = default.stages(
        config,
        completion=default.stage(
            "completion",
            steps=400,
            optimizer=default.adam(2e-4, warmup_steps=50, final_fraction=0.1),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=80,
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=1.0),
        ),
        joint=default.stage(
            "joint",
            steps=200,
            optimizer=default.adam(1e-4, beta_1=0.5, warmup_steps=20, final_fraction=0.1),
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=0.1),
        ),
    )
    config.steps_per_loop = 5
    config.log_every_steps = 20
    config.checkpoint_every_steps = 0
    config.checkpoint_every_minutes = 10.0
    config.sample_every_steps = 100
    return config
