"""Random weights in the layouts of the published ones, in NumPy alone: for tests, and for PyTorch to make goldens.

Names and shapes are written out here, apart from the package, as GLCIC-PyTorch, MMagic and the authors' release have
them. Numbers are scaled so that signals neither die nor explode, with variances down to 1e-3.
"""

from types import SimpleNamespace

import numpy as np

# Of C: index, channels in and out at full width, side of the kernel, deconvolution or not.
COMPLETION = [
    (1, 4, 64, 5, False),
    (2, 64, 128, 3, False),
    (3, 128, 128, 3, False),
    (4, 128, 256, 3, False),
    *[(index, 256, 256, 3, False) for index in range(5, 13)],
    (13, 256, 128, 4, True),
    (14, 128, 128, 3, False),
    (15, 128, 64, 4, True),
    (16, 64, 32, 3, False),
    (17, 32, 3, 3, False),
]
DILATIONS = {7: 2, 8: 4, 9: 8, 10: 16}
MMAGIC = (
    *[f"encoder.enc{i}" for i in (1, 2, 3, 4, 5, 6)],
    *[f"dilation_neck.dilation_convs.{i}" for i in (0, 1, 2, 3)],
    *[f"decoder.dec{i}" for i in (1, 2, 3, 4, 5, 6, 7)],
)
MEAN = (0.4, 0.45, 0.5)


def norm(rng, channels):
    """weight, bias, running_mean and running_var of batch normalisation."""
    variance = 10 ** rng.uniform(-3, 0, channels)
    variance[0] = 1e-3
    mean = rng.normal(0, 0.3, channels) * np.sqrt(variance)
    return [
        x.astype(np.float32) for x in (rng.uniform(0.6, 1.4, channels), rng.normal(0, 0.2, channels), mean, variance)
    ]


def convolution(rng, inputs, outputs, size, variance, deconvolution=False, stride=1):
    """Kernel in Torch's shape, whose outputs have about the given variances."""
    fan_in = inputs * size**2 / (4 if deconvolution else 1)
    kernel = rng.normal(size=(outputs, inputs, size, size)) * np.sqrt(1.5 / fan_in * variance)[:, None, None, None]
    return (kernel.transpose(1, 0, 2, 3) if deconvolution else kernel).astype(np.float32)


def completion_layers(rng, width=1.0):
    """Yield (index, kernel, bias, norm or None) of C's layers."""
    for index, inputs, outputs, size, deconvolution in COMPLETION:
        inputs = inputs if index == 1 else round(inputs * width)
        outputs = outputs if index == 17 else round(outputs * width)
        statistics = norm(rng, outputs) if index < 17 else None
        variance = statistics[3] if statistics else np.full(outputs, 6.0)
        kernel = convolution(rng, inputs, outputs, size, variance, deconvolution)
        bias = (rng.normal(size=outputs) * np.sqrt(variance) * 0.2).astype(np.float32)
        yield index, kernel, bias, statistics


def named_norm(name, statistics):
    names = ("weight", "bias", "running_mean", "running_var")
    named = {f"{name}.{part}": value for part, value in zip(names, statistics, strict=True)}
    return named | {f"{name}.num_batches_tracked": np.array(1234, np.int64)}


def glcic_pytorch_completion(seed=0, width=1.0):
    """model_cn: a plain state dict."""
    state = {}
    for index, kernel, bias, statistics in completion_layers(np.random.default_rng(seed), width):
        name = f"deconv{index}" if index in (13, 15) else f"conv{index}"
        state |= {f"{name}.weight": kernel, f"{name}.bias": bias}
        if statistics:
            state |= named_norm(f"bn{index}", statistics)
    return state


def mmagic_completion(seed=0, width=1.0):
    """The part of the state dict below `generator.`."""
    state = {}
    for index, kernel, bias, statistics in completion_layers(np.random.default_rng(seed), width):
        name = f"generator.{MMAGIC[index - 1]}"
        state[f"{name}.conv.weight"] = kernel
        if statistics:
            state |= named_norm(f"{name}.bn", statistics)
        else:
            state[f"{name}.conv.bias"] = bias
    return state


def _module(class_name, **fields):
    return SimpleNamespace(class_name=class_name, fields=fields)


def torch7_release(seed=0, width=1.0, mean=MEAN):
    """The authors' file, as `torch7.read` returns it."""
    modules = []
    for index, kernel, bias, statistics in completion_layers(np.random.default_rng(seed), width):
        size, dilation = kernel.shape[-1], DILATIONS.get(index, 1)
        kind, padding = "SpatialConvolution", dilation * (size // 2)
        if 5 <= index <= 12:
            kind = "SpatialDilatedConvolution"
        outputs = len(bias)
        fields = {"weight": kernel, "bias": bias, "kW": size, "kH": size, "nOutputPlane": outputs}
        if index in (13, 15):
            kind, padding = "SpatialFullConvolution", 1
            fields |= {"adjW": 0, "adjH": 0}
        if index in (5, 6, 7, 8, 9, 10, 11, 12):
            fields |= {"dilationW": dilation, "dilationH": dilation}
        stride = 2 if index in (2, 4, 13, 15) else 1
        fields |= {"dW": stride, "dH": stride, "padW": padding, "padH": padding, "gradWeight": kernel * 0}
        modules.append(_module(f"nn.{kind}", **fields))
        if statistics:
            names = ("weight", "bias", "running_mean", "running_var")
            values = dict(zip(names, statistics, strict=True))
            modules += [_module("nn.SpatialBatchNormalization", eps=1e-5, momentum=0.1, **values), _module("nn.ReLU")]
    modules.append(_module("nn.Sigmoid"))
    sequential = _module("nn.Sequential", modules=dict(enumerate(modules, 1)), train=False)
    return {"model": sequential, "mean": np.array(mean)}


def tower(rng, prefix, conv, bn, dense, depth, side, width, bias):
    """One tower of D, whose last maps are side x side."""
    state, inputs = {}, 3
    for i in range(1, depth + 1):
        outputs = round((64, 128, 256, 512, 512, 512)[i - 1] * width)
        statistics = norm(rng, outputs)
        name = prefix + conv.format(i)
        state[f"{name}.weight"] = convolution(rng, inputs, outputs, 5, statistics[3])
        if bias:
            state[f"{name}.bias"] = (rng.normal(size=outputs) * 0.1).astype(np.float32)
        state |= named_norm(prefix + bn.format(i), statistics)
        inputs = outputs
    features = inputs * side**2
    state[f"{prefix}{dense}.weight"] = (rng.normal(size=(1024, features)) / np.sqrt(features)).astype(np.float32)
    state[f"{prefix}{dense}.bias"] = (rng.normal(size=1024) * 0.1).astype(np.float32)
    return state


def logit(rng, name):
    return {
        f"{name}.weight": (rng.normal(size=(1, 2048)) / 20).astype(np.float32),
        f"{name}.bias": rng.normal(size=1).astype(np.float32),
    }


def glcic_pytorch_discriminator(seed=0, width=1.0, arc="places2"):
    """model_cd: 256 px and 128 px (places2), or 160 px and 96 px (celeba)."""
    rng = np.random.default_rng(seed)
    local_side, global_depth, global_side = (4, 6, 4) if arc == "places2" else (3, 5, 5)
    local = tower(rng, "model_ld.", "conv{}", "bn{}", "linear6", 5, local_side, width, bias=True)
    dense = "linear7" if arc == "places2" else "linear6"
    whole = tower(rng, "model_gd.", "conv{}", "bn{}", dense, global_depth, global_side, width, bias=True)
    return local | whole | logit(rng, "linear1")


def mmagic_discriminator(seed=0, width=1.0):
    """The part of the state dict below `disc.`, 256 px and 128 px."""
    rng = np.random.default_rng(seed)
    parts = (rng, "conv{}.conv", "conv{}.bn", "fc.linear")
    rng, *names = parts
    whole = tower(rng, "disc.global_disc.", *names, 6, 4, width, bias=False)
    local = tower(rng, "disc.local_disc.", *names, 5, 4, width, bias=False)
    return whole | local | logit(rng, "disc.fc")


def image_and_mask(height, width, seed=0):
    """A photo in [0, 1], [height, width, 3], and its mask [height, width, 1]."""
    rng = np.random.default_rng(seed)
    image = rng.random((height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    image = np.clip(image + rng.normal(0, 0.1, image.shape), 0, 1).astype(np.float32)
    mask = np.zeros((height, width, 1), np.float32)
    mask[height // 4 : height // 2, width // 3 : width * 2 // 3] = 1
    mask[:20, -30:] = 1  # at the border
    return image, mask
