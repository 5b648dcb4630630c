"""What the encoders learn by: the denoiser's own loss with a code (masked or whole), or plain reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.net import UNet, hidden_matrices
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity
from edgekit.models._diffusion.training import VALIDATION_LEVELS, frozen, shuffled, squared, stratified
from edgekit.models._diti.groups import added, boundaries, group_of, seen
from edgekit.models._diti.net import Coder, shifted, told_nothing

Rule = Literal["base", "stop", "dual"]  # which visible numbers learn: all; those of the level's own group; the mean of both losses
OUTER = ("shift.told_first",)  # beside hidden_matrices: reads waves
NOTHING = "nothing"  # the one value of the one condition of a base that is told nothing


def unlabelled(split: Split) -> Split:
    """The same pictures under one condition of one value: nothing can be learned from it."""

    def bare(part: Pictures) -> Pictures:
        return Pictures(part.images, np.zeros((len(part), 1), np.int64), (NOTHING,), ((NOTHING,),))

    return Split(split.name, bare(split.train), bare(split.validation), bare(split.test))


class CodeLearner(nn.Module):
    """An encoder and its decoder that learn together."""

    def __init__(self, net: Coder, noise: float = 0.0) -> None:
        """noise: deviation of what is added to each number while it learns, where a group has deviation 1."""
        super().__init__()
        self.net, self.noise = net, noise

    def hidden_matrices(self) -> list[str]:
        """Names of the weights that Muon updates."""
        return [f"net.{n}" for n in hidden_matrices(self.net)]

    def forward(self, images: Tensor, x: Tensor, plain: Tensor, levels: Tensor, visible: Tensor, learning: Tensor) -> Tensor:
        """Shift of v for noisy x, given the base's v of it; visible, learning float32 (B, dims): which numbers of the code are seen, and
        the share of the gradient that reaches the encoder through each of them."""
        code = self.net.encoder(images)
        if self.training and self.noise:
            code = code + self.noise * torch.randn_like(code)
        code = visible * (learning * code + (1 - learning) * code.detach())
        return shifted(self.net.shift, x, plain, levels, code)


class CodeTask:
    """v-prediction by a frozen base plus a shift that sees a code: PDAE (Zhang et al., NeurIPS 2022) where all of it is seen at every
    level, DiTi (Yue et al., ICLR 2024) where the level says which groups are."""

    def __init__(self, split: Split, base: UNet, groups: tuple[int, ...], rule: Rule, masked: bool) -> None:
        self.split, self.base = split, frozen(base)
        self.bounds = boundaries(len(groups), base.size)
        visible, own = torch.from_numpy(seen(groups)), torch.from_numpy(added(groups))
        self.visible = visible if masked else torch.ones_like(visible)
        # The mean of the losses of both rules has the same value and the mean of their gradients.
        self.learning = {"base": self.visible, "stop": own, "dual": (own + visible) / 2}[rule] if masked else self.visible

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(images, levels (N, 1), noise, group of each level (N,)); the validation's are the same in every epoch."""
        if split == "validation":
            rng = np.random.default_rng(0)
            images = self.split.validation.images
            for _ in range(VALIDATION_LEVELS):
                share = stratified(len(images), rng)
                for at in range(0, len(images), batch_size):
                    yield self._noisy(torch.from_numpy(images[at : at + batch_size]), share[at : at + batch_size], rng)
            return
        for rng, batch, _ in shuffled(self.split.train, epoch, seed, batch_size):
            yield self._noisy(batch, stratified(len(batch), rng), rng)

    def _noisy(self, images: Tensor, share: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, ...]:
        levels = share * LEVELS
        eps = torch.from_numpy(rng.standard_normal(tuple(images.shape), np.float32))
        return images, torch.from_numpy(levels)[:, None], eps, torch.from_numpy(group_of(levels, self.bounds))

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error of v."""
        images, levels, eps, group = batch
        x = noised(images, eps, levels)
        with torch.no_grad():
            plain = told_nothing(self.base.to(images.device), x, levels)
        visible, learning = (table.to(images.device)[group] for table in (self.visible, self.learning))
        return squared(plain + module(images, x, plain, levels, visible, learning), velocity(images, eps, levels))

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative errors of the pictures."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found


class ReconstructionTask:
    """The autoencoder: the same networks without noise and without a base. The decoder sees nothing but the code, at level 1000."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(images,)."""
        if split == "validation":
            images = self.split.validation.images
            for at in range(0, len(images), batch_size):
                yield (torch.from_numpy(images[at : at + batch_size]),)
            return
        for _, batch, _ in shuffled(self.split.train, epoch, seed, batch_size):
            yield (batch,)

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error of pixels."""
        return squared(rebuilt(module, batch[0]), batch[0])

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the negative errors of the pictures."""
        found: Tensor = -self.loss(module, batch) * len(batch[0])
        return found


def rebuilt(module: Any, images: Tensor) -> Tensor:
    """What the autoencoder makes of pictures. At level 1000 v is minus the clean picture."""
    blank, top = torch.zeros_like(images), torch.full((len(images), 1), float(LEVELS), device=images.device)
    every = torch.ones(len(images), own_dims(module), device=images.device)
    found: Tensor = -module(images, blank, blank, top, every, every)
    return found


def own_dims(module: Any) -> int:
    """Numbers of the code of a learner, wrapped or not."""
    return int(getattr(module, "module", module).net.encoder.dims)
