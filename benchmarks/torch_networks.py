"""The networks of `glcic_tf.networks` in PyTorch, written as one would write them there.

Shapes are [batch, channels, height, width].
"""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Filters, side of the kernel, stride, dilation; a negative stride is that of a deconvolution.
COMPLETION = (
    *[(64, 5, 1, 1), (128, 3, 2, 1), (128, 3, 1, 1), (256, 3, 2, 1), (256, 3, 1, 1), (256, 3, 1, 1)],
    *[(256, 3, 1, 2), (256, 3, 1, 4), (256, 3, 1, 8), (256, 3, 1, 16), (256, 3, 1, 1), (256, 3, 1, 1)],
    *[(128, 4, -2, 1), (128, 3, 1, 1), (64, 4, -2, 1), (32, 3, 1, 1)],
)


def completion_network(width=1.0):
    """C: from filled image and mask, [batch, 4, height, width], to [batch, 3, height, width] in [0, 1]."""
    channels, blocks = 4, []
    for filters, kernel_size, stride, dilation in COMPLETION:
        filters = max(1, round(filters * width))
        if stride < 0:
            layer = nn.ConvTranspose2d(channels, filters, kernel_size, -stride, padding=1)
        else:
            layer = nn.Conv2d(channels, filters, kernel_size, stride, dilation * (kernel_size // 2), dilation)
        blocks += [layer, nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
    return nn.Sequential(*blocks, nn.Conv2d(channels, 3, 3, padding=1), nn.Sigmoid())


def fold(network):
    """Return C, in evaluation mode, with each batch normalisation folded into the layer before it."""
    modules = []
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            modules[-1] = fuse_conv_bn_eval(modules[-1], module, isinstance(modules[-1], nn.ConvTranspose2d))
        else:
            modules.append(module)
    return nn.Sequential(*modules)


def complete(network, photo, hole, dtype=torch.float32):
    """Complete a whole photo, as one would write it.

    Args:
        network: of `completion_network`, in evaluation mode; of this dtype.
        photo: uint8 [height, width, 3], RGB.
        hole: bool [height, width].

    Returns:
        uint8 [height, width, 3].
    """
    height, width = hole.shape
    image, mask = (torch.from_numpy(x).float() for x in (photo.transpose(2, 0, 1) / np.float32(255), hole[None]))
    image, mask = (nn.functional.pad(x[None], (0, -width % 4, 0, -height % 4), "replicate") for x in (image, mask))
    with torch.no_grad():
        completed = network(torch.cat([image * (1 - mask) + 0.45 * mask, mask], 1).to(dtype)).float()
        completed = mask * completed + (1 - mask) * image
        return (completed * 255).round().byte()[0, :, :height, :width].permute(1, 2, 0).numpy()


def _tower(size, width):
    channels, blocks = 3, []
    while size > 7:  # as networks.tower_depth, which would bring TensorFlow into this process
        filters = max(1, round((64, 128, 256, 512)[min(len(blocks) // 3, 3)] * width))
        blocks += [nn.Conv2d(channels, filters, 5, 2, 2), nn.BatchNorm2d(filters), nn.ReLU()]
        channels, size = filters, -(-size // 2)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * size * size, 1024), nn.ReLU())


class ContextDiscriminator(nn.Module):
    """D: images and local patches to logits, [batch, 1]."""

    def __init__(self, image_size, patch_size, width=1.0):
        super().__init__()
        self.image, self.patch = _tower(image_size, width), _tower(patch_size, width)
        self.logit = nn.Linear(2048, 1)

    def forward(self, image, patch):
        """[batch, 3, image_size, image_size], [batch, 3, patch_size, patch_size] -> [batch, 1]."""
        return self.logit(torch.cat([self.image(image), self.patch(patch)], 1))


def copy_weights(arrays, network):
    """Give a network the weights of ours.

    Args:
        arrays: {name: array}, `<layer>/<variable>` of each of ours, the layers in their order.
        network: one of the above.
    """
    layers = {}
    for name, array in arrays.items():
        layer, variable = name.split("/")
        layers.setdefault(layer, {})[variable] = torch.from_numpy(array)
    layers.pop("mean_pixel", None)
    ours = [layers[name] for name in layers]
    # Both towers come layer by layer, image and patch in turn, in Keras; here the one comes after the other.
    if isinstance(network, ContextDiscriminator):
        towers = [[layers[name] for name in layers if name.startswith(prefix)] for prefix in ("image_", "patch_")]
        ours = [*towers[0], *towers[1], layers["logit"]]
    modules = [
        m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.Linear)
    ]
    with torch.no_grad():
        for module, weights in zip(modules, ours, strict=True):
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(weights["gamma"])
                module.bias.copy_(weights["beta"])
                channels = module.num_features
                continue
            kernel = weights["kernel"]
            if kernel.ndim == 4:
                kernel = kernel.permute(3, 2, 0, 1)
            elif module.out_features > 1:  # behind a Flatten, which has another order of the axes there
                side = int((len(kernel) / channels) ** 0.5)
                kernel = kernel.reshape(side, side, channels, -1).permute(3, 2, 0, 1).flatten(1)
            else:
                kernel = kernel.T
            module.weight.copy_(kernel)
            module.bias.copy_(weights["bias"])
