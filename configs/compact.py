"""A small network trained on a CPU in an hour and a half: width 0.5, growing from 64 to 256 px.

    python train.py --config configs/compact.py --data_dir photos/ --workdir run/

Made the weights in this repository: 89 minutes on 2 shared CPU cores (AVX-512 with bfloat16), then 17.47 dB inside the
hole on held-out photos where Telea has 15.74 dB. MODEL_CARD.md has the data, the times and the figures.

Departures from the paper, for little compute: half the channels; crops grow 64 -> 128 -> 256 px; a term over the known
pixels teaches the encoder and decoder at first and fades to 0 before the joint phase; Adam with cosine decay instead of
ADADELTA; half of the crops are mirrored; small photos are not enlarged.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.precision = "mixed_bfloat16"
    config.width = config.discriminator.width = 0.5
    config.data.enlarge = False
    config.data.mirror = True
    config.data.validation_photos = 64
    config.update(default.size(256))
    config.batch_size = 8
    batch = config.get_ref("batch_size")
    config.stages = default.stages(
        config,
        completion_64=default.stage(
            "completion",
            steps=1800,
            **default.size(64),
            batch_size=batch * 4,
            known_weight=1.0,
            known_weight_end=1.0,
            optimizer=default.adam(1e-3, warmup_steps=50, final_fraction=0.3),
        ),
        completion_128=default.stage(
            "completion",
            steps=1300,
            **default.size(128),
            batch_size=batch * 2,
            known_weight=1.0,
            known_weight_end=0.2,
            optimizer=default.adam(1e-3, warmup_steps=20, final_fraction=0.2),
        ),
        completion_256=default.stage(
            "completion",
            steps=800,
            known_weight=0.2,
            optimizer=default.adam(5e-4, warmup_steps=20, final_fraction=0.05),
        ),
        discriminator=default.stage(
            "discriminator",
            steps=120,
            discriminator_optimizer=default.adam(2e-4, beta_1=0.5),
        ),
        joint=default.stage(
            "joint",
            steps=350,
            optimizer=default.adam(2e-4, warmup_steps=20, final_fraction=0.1),
            discriminator_optimizer=default.adam(1e-4, beta_1=0.5),
        ),
    )
    config.steps_per_loop = 5
    config.log_every_steps = 50
    config.checkpoint_every_steps = 0
    config.checkpoint_every_minutes = 4.0
    config.sample_every_steps = 200
    return config
