"""Every field of a training run, with the paper's values. The other configs state only what differs.

Any field can be set from the command line: --config.batch_size=8, --config.stages.joint.steps=1000.
"""

import dataclasses

import ml_collections
from ml_collections.config_dict import placeholder

from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.training.settings import OptimizerSpec
from glcic_tf.training.stages import STAGE_FIELDS


def get_config():
    config = ml_collections.ConfigDict()

    # The run.
    config.seed = 0  # of the initial weights, the order of the photos, the crops and the holes
    config.deterministic = False  # bit-equal runs on CPU, at some cost in speed
    # float32 | mixed_bfloat16 (TPU, Ampere and later, recent CPUs) | mixed_float16 (T4, V100) | auto: mixed_bfloat16
    # where the device gains by it, else float32
    config.precision = "float32"
    config.jit_compile = False  # XLA for the step; one replica only; slower on CPU
    config.accumulate_steps = 1  # a replica processes its share of a batch in so many parts, to need less memory
    config.steps_per_loop = 10  # steps per call of the looped tf.function
    # Model file (.keras) that C starts from, with its width and mean pixel. "package": the one that ships; other names
    # that `glcic models` lists work too; empty: none.
    config.init_from = ""

    # Networks (paper, tables 1 to 3); context_encoder: those of Pathak et al. 2016, see configs/context_encoder.py.
    config.network = "glcic"  # glcic | context_encoder
    config.width = 1.0  # factor on C's channels
    config.equal_phases = False  # keep the deconvolutions' phases equal after each step, against a grid in the holes
    config.average_decay = 0.0  # the model files hold a moving average of C's weights, such as 0.999; 0: C itself
    config.discriminator = ml_collections.ConfigDict()
    config.discriminator.width = 1.0  # factor on the channels of D's convolutions
    # File of a discriminator that `glcic convert` wrote, to start from; it decides all the fields below.
    config.discriminator.init_from = ""
    config.discriminator.use_global = True  # either tower can be left out (the paper's ablation)
    config.discriminator.use_local = True
    config.discriminator.global_convolutions = 0  # depth of the tower; 0: halve until the map is 4-7 px wide
    config.discriminator.local_convolutions = 0

    # Data.
    config.data = ml_collections.ConfigDict()
    config.data.enlarge = True  # False: no photo is ever enlarged, and one smaller than the crop is left out
    config.data.reduced_decode = True  # decode JPEGs of 3 x short_edge_max_px or more at a fraction of their size
    config.data.mirror = False  # mirror half of the crops left to right; not in the paper
    config.data.mean_pixel = (-1.0, -1.0, -1.0)  # RGB in [0, 1]; negative: measured on the photos
    config.data.mean_photos = 10_000  # most photos that it is measured on
    config.data.validation_photos = 16  # taken from --val_dir; without it, held out, but at most a tenth of the photos
    config.data.workers = 0  # photos read at once; 0: TensorFlow's choice

    # What a stage works on. Each stage may have its own value of any of these.
    config.image_size = 256  # side of the training crops, px (section 4)
    config.patch_size = 128  # side of the local discriminator's patch, px (section 3.3)
    config.short_edge_min_px = 256  # a photo's shorter edge is resized to a random value in
    config.short_edge_max_px = 384  # [min, max], both included (section 4)
    config.batch_size = 96  # global, over all replicas
    config.known_weight = 0.0  # weight of the squared error over the known pixels at the stage's start; 0 in the paper
    config.known_weight_end = 0.0  # and at its end, linear in between
    # The squared error is a mean over each hole's pixels, or over the whole image's, where known pixels count as 0.
    config.loss_mean = "hole"  # hole | image (as GLCIC-PyTorch has it)
    # Alpha (section 3.4) weighs the adversarial loss against that mean, so it means the same as in GLCIC-PyTorch only
    # if loss_mean is "image". With "hole" the same weighting is alpha times image / hole pixels: 256^2 / 112^2 = 5.2
    # for the paper's mean hole, so 0.0004 there is 0.0021 here.
    config.adversarial_weight = 0.0004
    config.adversarial_form = "minimax"  # minimax (the paper's) | non_saturating
    config.feature_matching_weight = 0.0  # weight of the distance between D's features of completion and photo
    config.r1_gamma = 0.0  # D's loss plus gamma / 2 times its squared gradient at photos (R1); 0 in the paper
    # kind: rectangle | centre | blob | stroke | thin (wires or writing) | free_form (a blob or strokes) | mixed; for
    # their numbers and sizes see HoleSpec. By default one rectangle, each side 96 to 128 px (section 4).
    config.hole = ml_collections.ConfigDict(dataclasses.asdict(HoleSpec()))
    config.optimizer = optimizer()  # of C
    config.discriminator_optimizer = optimizer()  # of D

    # The paper's Algorithm 1: T_C = 90,000, T_D = 10,000, T_train = 500,000.
    config.stages = stages(
        config,
        completion=stage("completion", steps=90_000),
        discriminator=stage("discriminator", steps=10_000),
        joint=stage("joint", steps=400_000),
    )

    # What is kept and shown. These fields may change when a run is resumed, and so may precision, accumulate_steps,
    # jit_compile, steps_per_loop and data.workers; a stage that is not over yet may get another number of steps, and
    # stages may be added after the last one, even when that one is over.
    config.log_every_steps = 100
    config.checkpoint_every_steps = 5_000  # 0: by minutes alone
    config.checkpoint_every_minutes = 30.0  # whichever comes first; 0: by steps alone
    config.checkpoints_kept = 3
    # val_l1 | val_psnr_hole: the checkpoint and model file of each stage's best figure are kept too; empty: none
    config.keep_best = ""
    config.sample_every_steps = 2_000  # sample grid and validation figures; also at each stage's end
    config.sample_photos = 8  # photos in the grid
    return config.lock()


def optimizer(**changes):
    """An optimiser, with `changes` to OptimizerSpec: ADADELTA in its own form (section 4), or Adam."""
    return ml_collections.ConfigDict(dataclasses.asdict(OptimizerSpec(**changes)))


def adam(learning_rate, **changes):
    """Adam with its usual epsilon, cosine over the stage."""
    return optimizer(name="adam", learning_rate=learning_rate, epsilon=1e-7, schedule="cosine", **changes)


def stage(phase, steps, **changes):
    """A stretch of one phase (completion | discriminator | joint); `changes` to the fields of STAGE_FIELDS."""
    return dict(phase=phase, steps=steps) | changes


def stages(config, **named):
    """The stages in their order. A field that a stage does not set (None) takes the config's own value."""

    def blank(value):
        if isinstance(value, ml_collections.ConfigDict):
            return ml_collections.ConfigDict({name: blank(item) for name, item in value.items()})
        return placeholder(type(value))

    result = ml_collections.ConfigDict(sort_keys=False)
    for name, given in named.items():
        fields = ml_collections.ConfigDict({field: blank(config[field]) for field in STAGE_FIELDS})
        fields.phase, fields.steps = given["phase"], given["steps"]
        fields.lock()
        for field, value in given.items():
            if isinstance(value, dict | ml_collections.ConfigDict):
                fields[field].update(value)
            else:
                fields[field] = value
        result[name] = fields
    return result


def size(px):
    """The fields that keep the paper's proportions with crops of `px` x `px`."""
    return dict(
        image_size=px,
        patch_size=px // 2,
        short_edge_min_px=px,
        short_edge_max_px=px * 3 // 2,
        hole=dict(min_px=px * 3 // 8, max_px=px // 2),
    )
