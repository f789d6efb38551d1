"""The paper's ablation at half of its size, 128 px, from the weights in the repository: what each of D's towers does.

    glcic train --config ablation --data_dir photos/ --workdir both/

trains with both towers. Adding `--config.discriminator.use_local=False`, `--config.discriminator.use_global=False` or
`--config.adversarial_weight=0.0 --config.feature_matching_weight=0.0` leaves D's global tower, its local tower, or the
squared error alone. All four runs take the same steps on the same examples, with the recipe that the weights in the
repository ended with (configs/compact_further.py).
"""

from glcic_tf.configs import compact, default


def get_config():
    config = compact.get_config()
    config.init_from = "package"
    config.update(default.size(128))
    config.batch_size = 8
    config.equal_phases = True
    config.average_decay = 0.99
    config.feature_matching_weight = 0.01
    config.adversarial_weight = 0.003
    config.stages = default.stages(
        config,
        completion=default.stage(
            "completion",
            steps=500,
            optimizer=default.adam(3e-4, warmup_steps=20, final_fraction=0.2),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=100,
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=1.0),
        ),
        joint=default.stage(
            "joint",
            steps=250,
            optimizer=default.adam(1e-4, beta_1=0.5, warmup_steps=20, final_fraction=0.2),
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5, final_fraction=0.2),
        ),
    )
    config.log_every_steps = 25
    config.sample_every_steps = 200
    return config
