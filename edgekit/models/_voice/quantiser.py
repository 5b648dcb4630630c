"""Residual vector quantisation: each level says which of its entries is nearest to what the levels before left over.

Zeghidour et al., "SoundStream", IEEE/ACM TASLP 2021, section III-C: codebooks follow what falls to them by moving averages, begin at
samples of the data, and entries that nothing falls to are moved to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DECAY = 0.99  # of the moving averages
DEAD = 0.1  # of an entry's share: below it (as a number of samples an update) the entry is moved
COMMIT = 0.25  # weight of the pull of latents towards their entries (van den Oord et al., 2017)


class Quantiser(nn.Module):
    """`levels` codebooks of `entries` vectors."""

    books: Tensor
    counts: Tensor
    sums: Tensor
    begun: Tensor

    def __init__(self, width: int, levels: int, entries: int) -> None:
        super().__init__()
        self.register_buffer("books", torch.zeros(levels, entries, width))
        self.register_buffer("counts", torch.ones(levels, entries))
        self.register_buffer("sums", torch.zeros(levels, entries, width))
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))  # updates so far

    @property
    def levels(self) -> int:
        """How many codebooks there are."""
        return int(self.books.shape[0])

    def nearest(self, rest: Tensor, level: int) -> Tensor:
        """(..., width) -> int64 (...): the place of the nearest entry, of equals the first."""
        book = self.books[level]
        return (rest @ book.T - book.square().sum(1) / 2).argmax(-1)

    def codes(self, latents: Tensor) -> Tensor:
        """(..., width) -> int64 (..., levels)."""
        rest, found = latents, []
        for level in range(self.levels):
            found.append(self.nearest(rest, level))
            rest = rest - self.books[level][found[-1]]
        return torch.stack(found, -1)

    def latents(self, codes: Tensor) -> Tensor:
        """int64 (..., up to `levels`) -> the sum of the entries (..., width)."""
        return torch.stack([self.books[level][codes[..., level]] for level in range(codes.shape[-1])]).sum(0)

    def forward(self, latents: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """(N, T, width) as quantised by the first `used` levels, with the gradient of the latents; and the commitment loss."""
        total = self.latents(self.codes(latents)[..., :used])
        return latents + (total - latents).detach(), COMMIT * (latents - total.detach()).square().mean()

    @torch.no_grad()
    def learn(self, latents: Tensor) -> None:
        """Move the codebooks towards latents (N, T, width). The first call begins them by k-means on these."""
        rest = latents.reshape(-1, latents.shape[-1])
        first = int(self.begun) == 0
        for level in range(self.levels):
            if first:
                self.books[level] = _means(rest, self.books.shape[1])
                self.sums[level] = self.books[level]
            place = self.nearest(rest, level)
            one_hot = nn.functional.one_hot(place, self.books.shape[1]).to(rest.dtype)
            self.counts[level].lerp_(one_hot.sum(0), 1 - DECAY)
            self.sums[level].lerp_(one_hot.T @ rest, 1 - DECAY)
            dead = self.counts[level] < DEAD
            if dead.any():
                moved = rest[torch.randint(len(rest), (int(dead.sum()),))]
                self.counts[level][dead], self.sums[level][dead] = 1.0, moved
            self.books[level] = self.sums[level] / self.counts[level][:, None]
            rest = rest - self.books[level][self.nearest(rest, level)]
        self.begun += 1


def _means(x: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Lloyd's k-means of (samples, width), from samples of chance."""
    centres = x[torch.randperm(len(x))[:count]]
    if len(centres) < count:
        centres = centres[torch.randint(len(centres), (count,))] + 1e-3 * torch.randn(count, x.shape[1])
    for _ in range(rounds):
        one_hot = nn.functional.one_hot((x @ centres.T - centres.square().sum(1) / 2).argmax(-1), count).to(x.dtype)
        counts = one_hot.sum(0)
        centres = torch.where(counts[:, None] > 0, one_hot.T @ x / counts.clamp(min=1)[:, None], centres)
    return centres
