"""How good made pictures are: distance of features, requested attributes shown, sharpness, and whether anything was copied.

The features are those of a small network that learned the conditions of the training pictures. Figures compare only at an
equal number of pictures: a feature distance of few pictures is biased upwards, which `floor` shows at that number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from edgekit import files
from edgekit.checkpoint import open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.plan import Plan
from edgekit.train import fit

WIDTHS = (48, 64, 96)  # channels of the three convolutions
FEATURES = 64
AT_ONCE = 500  # pictures
EPOCHS = {"digits": 30, "mnist": 6, "avatars": 24, "emoji": 14}  # validation is flat from about there
EPOCHS |= {f"frames of {name}": n for name, n in (("moving_mnist", 5), ("moving_small", 3), ("emoji", 10), ("radar", 3))}
SEED = 0  # of the feature network's weights: one yardstick a data set, whatever is measured by it


class FeatureNet(nn.Module):
    """Three convolutions (batch norm, max-pool), FEATURES numbers, and a linear answer for each head of conditions."""

    def __init__(self, channels: int, size: int, sizes: tuple[int, ...]) -> None:
        """channels, size: of the pictures (size x size); sizes: values of each head."""
        super().__init__()
        blocks: list[nn.Module] = []
        for width in WIDTHS:
            blocks += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
            if size > 2:
                blocks.append(nn.MaxPool2d(2))
                size //= 2
        self.body = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * size * size, FEATURES))
        self.answers = nn.ModuleList(nn.Linear(FEATURES, n) for n in sizes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (B, C, H, W) in [-1, 1] -> (B, FEATURES), before the non-linearity: near to Gaussian."""
        found: torch.Tensor = self.body(images)
        return found

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits (B, values) of each head."""
        found = torch.relu(self.features(images))
        return tuple(answer(found) for answer in self.answers)


class Attributes:
    """The task of the feature network: to say what a picture shows."""

    def __init__(self, split: Split) -> None:
        self.parts = {
            "train": (torch.from_numpy(split.train.images), torch.from_numpy(split.train.conditions)),
            "validation": (torch.from_numpy(split.validation.images), torch.from_numpy(split.validation.conditions)),
        }

    def batches(
        self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Pictures and conditions."""
        images, conditions = self.parts[split]
        order = torch.arange(len(images))
        if split == "train":
            drawn = np.random.default_rng((seed, epoch)).permutation(len(images))
            order = torch.from_numpy(drawn[: len(images) // batch_size * batch_size or len(images)])
        for at in range(0, len(order), batch_size):
            yield images[order[at : at + batch_size]], conditions[order[at : at + batch_size]]

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Mean cross-entropy over the heads."""
        losses = [nn.functional.cross_entropy(found, batch[1][:, i]) for i, found in enumerate(module(batch[0]))]
        return torch.stack(losses).mean()

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Pictures that are told right, the mean over heads."""
        return _right(module(batch[0]), batch[1]).double().mean(1).sum()


def feature_net(fabric: Any, split: Split, folder: Path, progress: Progress, seed: int = SEED) -> FeatureNet:
    """The feature network of a data set, in eval mode: from the checkpoint `folder`, or trained now and stored there.

    It takes about half a CPU-minute on avatars. A checkpoint of other pictures or another plan is replaced. Two processes
    that come at once both train it, to the same weights; whoever ends last leaves it there. Another seed gives another judge of the same pictures.
    """
    # Chosen on the validation part of avatars: with a rate of 2e-3 and no decay it told 2 points fewer attributes there.
    plan = Plan(EPOCHS[split.name], 64, 5e-3, optimizer="adamw", weight_decay=0.1, schedule="cosine", clip_norm=1.0)
    train = split.train
    key = files.hash_of([split.sha256, dataclasses.asdict(plan), WIDTHS, FEATURES, seed])
    torch.manual_seed(seed)
    net = FeatureNet(train.images.shape[1], train.images.shape[2], train.sizes)
    try:
        done = open_checkpoint(folder)
    except EdgekitError:
        done = None
    if done is None or done.facts.get("key") != key:
        with files.scratch("features") as state:  # of this process alone: the cache is everybody's
            fitted = fit(
                fabric, net, Attributes(split), plan, seed=seed, state_folder=Path(state), progress=progress,
                what=f"feature network of {split.name}", key=key,
            )  # fmt: skip
        told = dict(zip(train.heads, accuracies(net, split.validation), strict=True))
        if fabric.is_global_zero:
            save_checkpoint(folder, net, {"form": "features", "data": split.name, "key": key, "epochs": fitted.epochs_run, "validation": told})
        fabric.barrier()
        done = open_checkpoint(folder)
    net.load_state_dict(done.state())
    return net.eval()


def features(net: FeatureNet, images: np.ndarray) -> np.ndarray:
    """Features of pictures float32 (N, C, H, W) in [-1, 1]: float64 (N, FEATURES)."""
    with torch.no_grad():
        parts = [net.features(torch.from_numpy(images[at : at + AT_ONCE])) for at in range(0, len(images), AT_ONCE)]
    return torch.cat(parts).double().numpy()


def accuracies(net: FeatureNet, given: Pictures) -> tuple[float, ...]:
    """The share of pictures that the network tells right, of each head."""
    right = _answers(net, given.images, given.conditions)
    return tuple(float(v) for v in right.mean(0))


def feature_fid(found: np.ndarray, reference: np.ndarray) -> float:
    """Fréchet distance of two sets of features (n, d) and (m, d), taken as Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Heusel et al., NeurIPS 2017, equation 6, with this network's features in place of Inception's. ValueError below 2 rows.
    """
    if len(found) < 2 or len(reference) < 2:
        raise ValueError(f"a covariance needs at least 2 pictures, found {len(found)} and {len(reference)}")
    a, b = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    gap = a.mean(0) - b.mean(0)
    first, second = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    # tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no complex roots
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * shared)


def floor(net: FeatureNet, held_out: Pictures, train: Pictures) -> float:
    """The feature distance of real pictures that nobody learned from: what the best generator can reach at their number."""
    return feature_fid(features(net, held_out.images), features(net, train.images))


def shown(net: FeatureNet, images: np.ndarray, conditions: np.ndarray) -> float:
    """The share of requested attributes that the pictures show to the network, the mean over heads.

    conditions int64 (N, heads); a head's number of values means 'not requested' and does not count. ValueError when nothing
    was requested.
    """
    right = _answers(net, images, conditions)
    asked = conditions < np.array([answer.out_features for answer in net.answers])
    counts = asked.sum(0)
    if not counts.any():
        raise ValueError("of no picture an attribute was requested; give conditions")
    return float(((right & asked).sum(0)[counts > 0] / counts[counts > 0]).mean())


def sharpness(images: np.ndarray) -> float:
    """Mean |horizontal difference| of pictures (N, C, H, W) in [-1, 1]: falls when they blur, rises when they are noisy."""
    return float(np.abs(np.diff(images.astype(np.float64), axis=-1)).mean())


def nearest(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Of each picture the root mean square difference to the most similar training picture: float64 (N,), near 0 for a copy."""
    return nearest_rows(images.reshape(len(images), -1), train.reshape(len(train), -1))


def nearest_rows(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Of each row (N, D) the root mean square difference to the most similar row of `known` (M, D): float64 (N,)."""
    flat, known = rows.astype(np.float64), known.astype(np.float64)
    squares = (known**2).sum(1)
    found = [
        ((piece**2).sum(1)[:, None] + squares - 2 * piece @ known.T).min(1) for piece in np.array_split(flat, -(-len(flat) // AT_ONCE))
    ]
    made: np.ndarray = np.sqrt(np.concatenate(found).clip(0) / flat.shape[1])
    return made


def _answers(net: FeatureNet, images: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Which heads are told as `conditions` say: bool (N, heads)."""
    asked = torch.from_numpy(conditions)
    with torch.no_grad():
        parts = [
            _right(net(torch.from_numpy(images[at : at + AT_ONCE])), asked[at : at + AT_ONCE]) for at in range(0, len(images), AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def _right(logits: tuple[torch.Tensor, ...], conditions: torch.Tensor) -> torch.Tensor:
    return torch.stack([found.argmax(1) == conditions[:, i] for i, found in enumerate(logits)], 1)
