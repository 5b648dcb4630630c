"""What a recipe of the IIR-SNN family may say, and the network and images that it names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.events import rebinned
from edgekit.images import Images, load_images
from edgekit.plan import Plan
from edgekit.recipe import fill

if TYPE_CHECKING:
    import torch

    from edgekit.models._iir_snn_net import Layer, Net


@dataclass(frozen=True)
class Network:
    """Which network of the paper's table; `custom` takes `layers` and `hidden`.

    layers: channels of 3x3 convolutions; behind one of them, "A" (2x2 average pooling), "O" (2x2 OR pooling of spikes, where
    one is enough) or "S" (the next convolution in steps of 2). "A" makes a map up to four times as dense in values that
    are not 0, "O" nearly so with only ones, "S" leaves it as it is.
    """

    name: Literal["digits", "vgg5", "vgg9", "vgg16", "resnet20", "custom"] = "digits"
    layers: tuple[int | str, ...] = ()
    hidden: tuple[int, ...] = ()
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if (self.name == "custom") != bool(self.layers or self.hidden):
            raise ValueError('layers and hidden belong to name = "custom", and it needs at least one of them')
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, found {self.dropout}")


@dataclass(frozen=True)
class Data:
    """Which images; limits of 0 take all. Augmentation moves (and mirrors) training images."""

    name: Literal["digits", "mnist", "cifar10", "nmnist"] = "digits"
    train_limit: int = 0
    test_limit: int = 0
    augment: Literal["none", "shift", "shift-flip"] = "none"
    shift_pixels: int = 1


@dataclass(frozen=True)
class Sparsity:
    """One more stage behind the last T, with a price on spikes: fewer spikes, less work for what is driven by them.

    The loss gets  weight * mean over layers of max(0, r - rate) / rate,  r the layer's spikes per neuron and timestep.
    """

    rate: float = 0.08
    weight: float = 1.0
    epochs: int = 0  # 0: no such stage

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is spikes per neuron and timestep, between 0 and 1, found {self.rate}")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be above 0, found {self.weight}")
        if self.epochs < 0:
            raise ValueError(f"epochs must be 0 (no such stage) or more, found {self.epochs}")


@dataclass(frozen=True)
class Distillation:
    """While it spikes, a network also learns what an ANN gives for the same image (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2).

    The loss becomes  (1 - weight) * cross-entropy + weight * temperature^2 * KL(softmax(a / temperature) || softmax(s / temperature)),
    a the logits of the ANN, s those of the spiking network. The ANN is the one that the network was made from or, with `layers` or
    `hidden`, one of that size, trained first for `epochs` by the plan of the ANN and then no more. With `mixup` both see mixtures of
    two images, lambda a + (1 - lambda) b, lambda of Beta(mixup, mixup), and the labels' loss is shared alike (Zhang et al., arXiv 1710.09412;
    for teachers Beyer et al., arXiv 2106.05237): few images are learned by heart otherwise.
    """

    weight: float = 0.0  # 0: none
    temperature: float = 2.0
    mixup: float = 0.0  # 0: none; 1: any share is as likely
    layers: tuple[int | str, ...] = ()  # as those of Network
    hidden: tuple[int, ...] = ()
    epochs: int = 0  # 0: those of the ANN

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight is a share from 0 (none) to 1, found {self.weight}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0, found {self.temperature}")
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f"mixup must be 0 (none) or more, found {self.mixup}")
        if self.epochs < 0:
            raise ValueError(f"epochs must be 0 (those of the ANN) or more, found {self.epochs}")

    @property
    def own(self) -> bool:
        """Whether another ANN than that of the recipe teaches."""
        return self.weight > 0 and bool(self.layers or self.hidden)


@dataclass(frozen=True)
class Options:
    """A recipe of this family. `snn.epochs` is for each stage unless stage_epochs gives one number a stage."""

    ann: Plan
    snn: Plan
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    distillation: Distillation = field(default_factory=Distillation)
    sparsity: Sparsity = field(default_factory=Sparsity)
    schedule: tuple[int, ...] = (5, 4, 3, 2, 1)
    stage_epochs: tuple[int, ...] = ()
    percentile: float = 90.0  # of the layer's current, for the first thresholds
    keep_norms: bool = False  # batch norms stay while spiking networks are trained, and are fused only where one is deployed
    controls: bool = True  # also: conversion only at T=1, and T=1 trained directly for the same number of epochs
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            not self.schedule
            or min(self.schedule) < 1
            or list(self.schedule) != sorted(set(self.schedule), reverse=True)
        ):
            raise ValueError(f"schedule must fall, as in [5, 4, 3, 2, 1], found {list(self.schedule)}")
        if self.stage_epochs and len(self.stage_epochs) != len(self.schedule):
            raise ValueError(
                f"stage_epochs needs one number for each of the {len(self.schedule)} stages of the schedule"
            )
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile lies between 0 and 100, found {self.percentile}")

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs of each stage."""
        return self.stage_epochs or (self.snn.epochs,) * len(self.schedule)


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    values = {k: v for k, v in recipe.items() if k not in ("family", "deploy")}
    options: Options = fill(Options, values, "recipe")
    return options


def images_of(options: Options) -> Images:
    """The images that a recipe names; events in as many time bins as the first T of its schedule."""
    limits = (options.data.train_limit, options.data.test_limit)
    return load_images(options.data.name, limits, options.schedule[0])


def for_steps(images: np.ndarray, steps: int) -> np.ndarray:
    """What a network of T=`steps` sees: still images as they are, events in that many bins."""
    return rebinned(images, steps) if images.ndim == 5 else images


def for_ann(images: np.ndarray, data: Images) -> torch.Tensor:
    """What the ANN sees: still images as they are, of events the mean over the bins, which is a step's mean current."""
    x = normalise(images, data)
    return x.mean(1) if images.ndim == 5 else x


def _layers(network: Network, classes: int) -> tuple[Layer, ...]:
    from edgekit.models._iir_snn_net import VGG, resnet20_layers, vgg_layers

    if network.name == "resnet20":
        return resnet20_layers(classes)
    convs, hidden = (network.layers, network.hidden) if network.name == "custom" else VGG[network.name]
    return vgg_layers(convs, hidden, classes)


def build(options: Options, data: Images, spiking: bool) -> Net:
    """The network for these images, as it is trained; EdgekitError when the recipe's layers make none."""
    from edgekit.models._iir_snn_net import Net

    try:
        c, h, w = data.test_images.shape[-3:]
        return Net(_layers(options.network, data.classes), (c, h, w), options.network.dropout, spiking, not spiking or options.keep_norms)
    except ValueError as error:
        raise EdgekitError(f"network: {error}") from None


def normalise(images: np.ndarray, data: Images) -> torch.Tensor:
    """uint8 pixels, centred and scaled to about -1..1, as float32."""
    import torch

    images = np.require(images, requirements="W")  # torch refuses arrays that are views of a file's bytes
    if not data.pixel_offset:  # event counts stay as they are
        return torch.from_numpy(images).to(torch.float32)
    return (torch.from_numpy(images).to(torch.float32) - data.pixel_offset) / data.pixel_offset
