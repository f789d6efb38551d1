"""Training steps in PyTorch: eager, as one would write them there.

Three procedures of the joint phase:

    published    as GLCIC-PyTorch (github.com/otenim/GLCIC-PyTorch), the best known one, has it: one pass of C for both
                 updates; D sees all of C's output, in three passes; losses from probabilities; C's update also computes
                 gradients of D's weights, which nobody uses. In the discriminator phase, C passes as for an update.
    two_passes   C passes once for D's update, without gradients, and once more for its own.
    shared_pass  one pass of C for both updates, and no gradient that is not used: the work of our step.
"""

import contextlib

import numpy as np
import torch
from torch.nn import functional

from benchmarks import torch_networks


class Training:
    """Networks and optimisers of a stage, as far as its phase needs them.

    Args:
        stage: a stages.Stage.
        width: factor on the channels of C and D.
        procedure: one of the above; in the completion phase all are the same.
        bfloat16: networks pass under torch.autocast.
        device: of PyTorch.
        channels_last: memory format of networks and images; PyTorch's default is the other.
        compiled: networks pass as torch.compile makes them.
        mean_pixel: RGB in [0, 1].
    """

    def __init__(self, stage, width, procedure, bfloat16, device, channels_last, compiled, mean_pixel):
        self.stage, self.procedure, self.device = stage, procedure, torch.device(device)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.bfloat16, self.compiled = bfloat16, compiled
        self.mean_pixel = torch.tensor(mean_pixel, dtype=torch.float32, device=self.device).reshape(1, 3, 1, 1)
        self.completion = self._network(torch_networks.completion_network(width))
        self.discriminator = self.completion_optimizer = self.discriminator_optimizer = None
        if stage.phase != "discriminator":
            self.completion_optimizer = _optimizer(stage.optimizer, self.completion)
        if stage.phase != "completion":
            network = torch_networks.ContextDiscriminator(stage.image_size, stage.patch_size, width)
            self.discriminator = self._network(network)
            self.discriminator_optimizer = _optimizer(stage.discriminator_optimizer, self.discriminator)

    def _network(self, network):
        network = network.to(self.device, memory_format=self.format).train()
        if self.compiled:
            network.compile()
        return network

    def put(self, batch):
        """What `step` takes, of a batch as `examples.batch` makes it."""
        image = np.ascontiguousarray(batch["image"].transpose(0, 3, 1, 2), np.float32) / 255
        mask = np.ascontiguousarray(batch["mask"].transpose(0, 3, 1, 2), np.float32)
        image, mask = (torch.from_numpy(x).to(self.device, memory_format=self.format) for x in (image, mask))
        return image, mask, batch["patch"].tolist(), batch["real_patch"].tolist()

    def step(self, batch):
        """Do one step; returns {name: loss tensor}."""
        return getattr(self, f"_{self.stage.phase}")(*batch)

    def _completion(self, image, mask, *_):
        loss = self._completion_loss(self._complete(image, mask), image, mask)
        loss.backward()
        _update(self.completion_optimizer)
        return {"completion_loss": loss.detach()}

    def _discriminator(self, image, mask, patch, real_patch):
        if self.procedure == "published":
            fakes = self._complete(image, mask).detach()
        else:
            self.completion.eval()
            with torch.no_grad():
                fakes = self._seen(self._complete(image, mask), image, mask)
        return {"discriminator_loss": self._update_discriminator(image, fakes, patch, real_patch)}

    def _joint(self, image, mask, patch, real_patch):
        if self.procedure == "two_passes":
            with torch.no_grad():
                completed = self._complete(image, mask)
        else:
            completed = self._complete(image, mask)
        fakes = self._seen(completed, image, mask)
        discriminator_loss = self._update_discriminator(image, fakes.detach(), patch, real_patch)
        if self.procedure == "two_passes":
            completed = self._complete(image, mask)
            fakes = self._seen(completed, image, mask)
        with contextlib.nullcontext() if self.procedure == "published" else _frozen(self.discriminator):
            completion_loss = self._completion_loss(completed, image, mask)
            logits = self._discriminate(fakes, patch)
            if self.procedure == "published":
                adversarial = functional.binary_cross_entropy(logits.sigmoid(), torch.ones_like(logits))
            else:
                adversarial = -functional.softplus(logits).mean()
            (completion_loss + self.stage.adversarial_weight * adversarial).backward()
        _update(self.completion_optimizer)
        return {
            "completion_loss": completion_loss.detach(),
            "adversarial_loss": adversarial.detach(),
            "discriminator_loss": discriminator_loss,
        }

    def _complete(self, image, mask):
        filled = image - image * mask + self.mean_pixel * mask
        with self._autocast():
            return self.completion(torch.cat([filled, mask], 1)).float()

    def _completion_loss(self, completed, image, mask):
        if self.procedure == "published" and self.stage.phase == "joint":
            return functional.mse_loss(completed * mask, image * mask)
        squared = (completed - image).square().mean(1, keepdim=True)
        return ((mask * squared).sum([1, 2, 3]) / mask.sum([1, 2, 3])).mean()

    def _seen(self, completed, image, mask):
        return completed if self.procedure == "published" else mask * completed + (1 - mask) * image

    def _discriminate(self, images, corners):
        size = self.stage.patch_size
        patches = [x[:, top : top + size, left : left + size] for x, (top, left) in zip(images, corners, strict=True)]
        with self._autocast():
            return self.discriminator(images, torch.stack(patches)).float()

    def _update_discriminator(self, image, fakes, patch, real_patch):
        fake, real = self._discriminate(fakes, patch), self._discriminate(image, real_patch)
        if self.procedure == "published":
            loss = functional.binary_cross_entropy(fake.sigmoid(), torch.zeros_like(fake))
            loss = (loss + functional.binary_cross_entropy(real.sigmoid(), torch.ones_like(real))) / 2
        else:
            loss = (functional.softplus(fake) + functional.softplus(-real)).mean()
        loss.backward()
        _update(self.discriminator_optimizer)
        return loss.detach()

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()


def _optimizer(spec, network):
    if spec.name == "adadelta":
        return torch.optim.Adadelta(network.parameters(), lr=spec.learning_rate, rho=spec.rho, eps=spec.epsilon)
    betas = spec.beta_1, spec.beta_2
    return torch.optim.Adam(network.parameters(), lr=spec.learning_rate, betas=betas, eps=spec.epsilon)


def _update(optimizer):
    optimizer.step()
    optimizer.zero_grad()


@contextlib.contextmanager
def _frozen(network):
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
