"""PyTorch's own results for tests/convert/test_published.py, which needs no torch; this does.

python tests/convert/goldens/published.py, from the root.

The networks are written here as their programs have them, and get the random weights of
tests/convert/published_weights.py. Every eighth row and column of a completed image is kept.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
import published_weights as weights

EVERY = 8
SIZES = ((256, 256), (212, 180))


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def convolve(x, index, kernel, bias):
    if index in (13, 15):
        return functional.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
    dilation, stride = weights.DILATIONS.get(index, 1), 2 if index in (2, 4) else 1
    return functional.conv2d(x, kernel, bias, stride, dilation * (kernel.shape[-1] // 2), dilation)


def normalise(x, state, name):
    module = nn.BatchNorm2d(x.shape[1]).eval()
    module.load_state_dict({p: tensor(state[f"{name}.{p}"]) for p in module.state_dict()})
    return module(x)


def glcic_pytorch_completion(state, image, mask):
    mean = torch.tensor(weights.MEAN).reshape(1, 3, 1, 1)
    x = torch.cat([image - image * mask + mean * mask, mask], 1)
    for index in range(1, 18):
        name = f"deconv{index}" if index in (13, 15) else f"conv{index}"
        x = convolve(x, index, tensor(state[f"{name}.weight"]), tensor(state[f"{name}.bias"]))
        x = normalise(functional.relu(x), state, f"bn{index}") if index < 17 else torch.sigmoid(x)
    return x


def torch7_completion(layers, image, mask):
    """The authors' demo: the mean subtracted, 0 in the hole, batch normalisation before ReLU."""
    mean = torch.tensor(weights.MEAN).reshape(1, 3, 1, 1)
    x = torch.cat([(image - mean) * (1 - mask), mask], 1)
    for index, kernel, bias, statistics in layers:
        x = convolve(x, index, tensor(kernel), tensor(bias))
        if statistics:
            gamma, beta, running_mean, variance = map(tensor, statistics)
            x = functional.relu(functional.batch_norm(x, running_mean, variance, gamma, beta, eps=1e-5))
    return torch.sigmoid(x)


def mmagic_completion(state, image, mask):
    bgr = image[:, [2, 1, 0]] * 255
    x = torch.cat([(bgr - 127.5) / 127.5 * (1 - mask), mask], 1)
    for index in range(1, 18):
        name = f"generator.{weights.MMAGIC[index - 1]}"
        bias = state.get(f"{name}.conv.bias")
        x = convolve(x, index, tensor(state[f"{name}.conv.weight"]), None if bias is None else tensor(bias))
        if index < 17:
            x = functional.relu(normalise(x, state, f"{name}.bn"))
    return (torch.clamp(x, -1, 1)[:, [2, 1, 0]] + 1) / 2


def tower(x, state, prefix, conv, bn, dense, relu_first):
    i = 1
    while f"{prefix}{conv.format(i)}.weight" in state:
        name = prefix + conv.format(i)
        bias = state.get(f"{name}.bias")
        x = functional.conv2d(x, tensor(state[f"{name}.weight"]), None if bias is None else tensor(bias), 2, 2)
        if relu_first:
            x = normalise(functional.relu(x), state, prefix + bn.format(i))
        else:
            x = functional.relu(normalise(x, state, prefix + bn.format(i)))
        i += 1
    x = functional.linear(x.flatten(1), *[tensor(state[f"{prefix}{dense}.{p}"]) for p in ("weight", "bias")])
    return functional.relu(x)


def glcic_pytorch_discriminator(state, image, patch):
    dense = "linear7" if "model_gd.linear7.weight" in state else "linear6"
    local = tower(patch, state, "model_ld.", "conv{}", "bn{}", "linear6", True)
    whole = tower(image, state, "model_gd.", "conv{}", "bn{}", dense, True)
    return functional.linear(torch.cat([local, whole], 1), *[tensor(state[f"linear1.{p}"]) for p in ("weight", "bias")])


def mmagic_discriminator(state, image, patch):
    whole, local = (
        tower(x[:, [2, 1, 0]] * 2 - 1, state, f"disc.{name}_disc.", "conv{}.conv", "conv{}.bn", "fc.linear", False)
        for name, x in (("global", image), ("local", patch))
    )
    return functional.linear(torch.cat([whole, local], 1), *[tensor(state[f"disc.fc.{p}"]) for p in ("weight", "bias")])


def inputs(*arrays):
    return [tensor(a.transpose(2, 0, 1)[None]) for a in arrays]


def main():
    found = {}
    with torch.no_grad():
        for name, complete, state in (
            ("glcic_pytorch", glcic_pytorch_completion, weights.glcic_pytorch_completion()),
            ("torch7", torch7_completion, list(weights.completion_layers(np.random.default_rng(0)))),
            ("mmagic", mmagic_completion, weights.mmagic_completion()),
        ):
            for height, width in SIZES:
                completed = complete(state, *inputs(*weights.image_and_mask(height, width)))
                kept = completed[0].numpy().transpose(1, 2, 0)[::EVERY, ::EVERY]
                found[f"{name}_{height}_{width}"] = kept
        for name, judge, state, size, patch in (
            (
                "glcic_pytorch_places2",
                glcic_pytorch_discriminator,
                weights.glcic_pytorch_discriminator(0, 0.25),
                256,
                128,
            ),
            (
                "glcic_pytorch_celeba",
                glcic_pytorch_discriminator,
                weights.glcic_pytorch_discriminator(0, 0.25, "celeba"),
                160,
                96,
            ),
            ("mmagic_discriminator", mmagic_discriminator, weights.mmagic_discriminator(0, 0.25), 256, 128),
        ):
            image, _ = weights.image_and_mask(size, size)
            found[name] = judge(state, *inputs(image, image[7 : 7 + patch, 9 : 9 + patch]))[0].numpy()
    for name, values in found.items():
        print(name, values.shape, float(values.min()), float(values.mean()), float(values.max()), float(values.std()))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
