"""IIR-SNN: a spiking network compressed from T=5 to one timestep by iterative initialisation and retraining."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit import files
from edgekit.bundle import Allowed, Golden, Model
from edgekit.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.estimate import count, count_ann, price, prices_of
from edgekit.measurement import Progress
from edgekit.models._images import Images, load_images
from edgekit.parts import Arrays, Family, Score, Trained
from edgekit.recipe import fill
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import SpikingNet
from edgekit.train import Fitted, Plan

if TYPE_CHECKING:
    import torch

    from edgekit.models._iir_snn_net import Layer, Net

COUNTED = 256  # test images whose spikes are counted for the energy estimate
GOLDEN_VALUES = 4_000_000  # at most so many golden spikes a bundle; few images of a large network, 64 of a small one


@dataclass(frozen=True)
class Network:
    """Which network of the paper's table; `custom` takes `layers` (channels and "A" for 2x2 pooling) and `hidden`."""

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

    name: Literal["digits", "mnist", "cifar10"] = "digits"
    train_limit: int = 0
    test_limit: int = 0
    augment: Literal["none", "shift", "shift-flip"] = "none"
    shift_pixels: int = 1


@dataclass(frozen=True)
class Options:
    """A recipe of this family. `snn.epochs` is for each stage unless stage_epochs gives one number a stage."""

    ann: Plan
    snn: Plan
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    schedule: tuple[int, ...] = (5, 4, 3, 2, 1)
    stage_epochs: tuple[int, ...] = ()
    percentile: float = 90.0  # of the layer's current, for the first thresholds
    controls: bool = True  # also: conversion only at T=1, and T=1 trained directly for the same number of epochs
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.schedule or min(self.schedule) < 1 or list(self.schedule) != sorted(set(self.schedule), reverse=True):
            raise ValueError(f"schedule must fall, as in [5, 4, 3, 2, 1], found {list(self.schedule)}")
        if self.stage_epochs and len(self.stage_epochs) != len(self.schedule):
            raise ValueError(f"stage_epochs needs one number for each of the {len(self.schedule)} stages of the schedule")
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile lies between 0 and 100, found {self.percentile}")

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs of each stage."""
        return self.stage_epochs or (self.snn.epochs,) * len(self.schedule)


class IirSnn(Family):
    """Chowdhury, Rathi, Roy, "One Timestep is All You Need", arXiv 2110.05929."""

    needs = ("torch", "sklearn", "lightning_fabric")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """ANN -> conversion -> each T of the schedule -> controls; what is done already is kept."""
        from edgekit.train import launch

        data = load_images(recipe.data.name, (recipe.data.train_limit, recipe.data.test_limit))
        return _Fit(recipe, out, progress, data, launch(devices, nodes)).run()

    def load(self, checkpoint: Path) -> Trained:
        """The trained one-timestep network."""
        return _TrainedNet(open_checkpoint(checkpoint))

    def score(self, recipe: Mapping[str, Any], run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """Accuracy over the test images, 100 at a time."""
        options = _options(recipe)
        data = load_images(options.data.name, (options.data.train_limit, options.data.test_limit))
        images, labels = data.test_images[:limit], data.test_labels[:limit]
        right = 0
        for at in range(0, len(images), 100):
            logits = run({"image": images[at : at + 100]})["logits"]
            right += int((logits.argmax(1) == labels[at : at + 100]).sum())
        return Score("accuracy", right / len(images), len(images))


PART = IirSnn()


def _options(recipe: Mapping[str, Any]) -> Options:
    values = {k: v for k, v in recipe.items() if k not in ("family", "deploy")}
    options: Options = fill(Options, values, "recipe")
    return options


def _layers(network: Network, classes: int) -> tuple[Layer, ...]:
    from edgekit.models._iir_snn_net import VGG, resnet20_layers, vgg_layers

    if network.name == "resnet20":
        return resnet20_layers(classes)
    convs, hidden = (network.layers, network.hidden) if network.name == "custom" else VGG[network.name]
    return vgg_layers(convs, hidden, classes)


def _build(options: Options, data: Images, spiking: bool) -> Net:
    from edgekit.models._iir_snn_net import Net

    try:
        c, h, w = data.test_images.shape[1:]
        return Net(_layers(options.network, data.classes), (c, h, w), options.network.dropout, spiking)
    except ValueError as error:
        raise EdgekitError(f"network: {error}") from None


def _normalise(images: np.ndarray, data: Images) -> torch.Tensor:
    import torch

    return (torch.from_numpy(images).to(torch.float32) - data.pixel_offset) / data.pixel_offset


class _Task:
    """The three hooks of the training loop: batches, loss, score."""

    def __init__(self, data: Images, options: Options, steps: int | None) -> None:
        self.data, self.options, self.steps = data, options.data, steps  # steps None: the ANN

    def batches(
        self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        import torch

        train = split == "train"
        images, labels = (
            (self.data.train_images, self.data.train_labels)
            if train
            else (self.data.validation_images, self.data.validation_labels)
        )
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(images)) if train else np.arange(len(images))
        whole = len(order) // batch_size * batch_size
        for at in range(0, whole if train and whole else len(order), batch_size):
            rows = order[at : at + batch_size]
            batch = images[rows]
            if train and self.options.augment != "none":
                batch = _moved(batch, rng, self.options.shift_pixels, flip=self.options.augment == "shift-flip")
            yield _normalise(batch, self.data), torch.from_numpy(labels[rows])

    def _logits(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = module(x) if self.steps is None else module(x, self.steps)
        return logits

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        from torch.nn import functional as F

        return F.cross_entropy(self._logits(module, batch[0]), batch[1])

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return (self._logits(module, batch[0]).argmax(1) == batch[1]).sum()


def _moved(batch: np.ndarray, rng: np.random.Generator, pixels: int, flip: bool) -> np.ndarray:
    """Each image moved by up to `pixels` (edges repeated), and mirrored every second time when `flip`."""
    n, _, h, w = batch.shape
    padded = np.pad(batch, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), mode="edge")
    dy, dx = rng.integers(0, 2 * pixels + 1, (2, n))
    y, x = dy[:, None] + np.arange(h), dx[:, None] + np.arange(w)
    moved: np.ndarray = padded[np.arange(n)[:, None, None], :, y[:, :, None], x[:, None, :]].transpose(0, 3, 1, 2)
    if flip:
        mirror = rng.random(n) < 0.5
        moved[mirror] = moved[mirror][:, :, :, ::-1]
    return np.ascontiguousarray(moved)


class _Fit:
    """One run of the pipeline; every stage is a checkpoint folder, made once."""

    def __init__(self, options: Options, out: Path, progress: Progress, data: Images, fabric: Any) -> None:
        self.options, self.out, self.progress, self.data, self.fabric = options, out, progress, data, fabric
        self.rows: list[dict[str, Any]] = []

    def run(self) -> Path:
        o = self.options
        ann = self._stage("ann", "ANN", "ann", None, o.ann, None)
        last: Checkpoint = ann
        for steps, epochs in zip(o.schedule, o.epochs, strict=True):
            plan = dataclasses.replace(o.snn, epochs=epochs)
            last = self._stage(f"t{steps}", f"T={steps}", "stage", steps, plan, last)
        if o.controls and o.schedule[-1] == 1:
            self._stage("converted_t1", "T=1 converted, not retrained", "control", 1, None, ann)
            plan = dataclasses.replace(o.snn, epochs=sum(o.epochs))
            self._stage("direct_t1", "T=1 trained directly from the ANN", "control", 1, plan, ann)
        if self.fabric.is_global_zero:
            result = {"score_name": "accuracy", "test_samples": len(self.data.test_images), "rows": self.rows}
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return last.folder

    def _stage(
        self, name: str, label: str, role: str, steps: int | None, plan: Plan | None, source: Checkpoint | None
    ) -> Checkpoint:
        """Train (or only convert) one network, unless its checkpoint is there and came from the same inputs."""
        import torch

        folder = self.out / name
        decided_by = {
            "recipe": dataclasses.asdict(self.options),
            "plan": plan and dataclasses.asdict(plan),
            "source": source and source.sha256,
            "stage": name,
        }
        key = files.hash_of(decided_by)
        try:
            done = open_checkpoint(folder)
        except EdgekitError:
            done = None
        if done is None or done.facts.get("key") != key:
            torch.manual_seed(self.options.seed)
            net = self._initial(steps, source)
            fitted = self._train(net, name, label, steps, plan)
            facts = {
                "family": "iir_snn",
                "name": self.out.parent.name,
                "recipe": json.loads(files.canonical_json(dataclasses.asdict(self.options))),
                "steps": steps,
                "key": key,
                "row": self._row(net, label, role, steps, fitted),
            }
            if self.fabric.is_global_zero:
                save_checkpoint(folder, net, facts)
            self.fabric.barrier()
            done = open_checkpoint(folder)
        self.rows.append(dict(done.facts["row"]))
        return done

    def _initial(self, steps: int | None, source: Checkpoint | None) -> Net:
        from edgekit.models._iir_snn_net import convert, set_thresholds

        if source is None or steps is None:
            return _build(self.options, self.data, spiking=False)
        if source.facts["steps"] is not None:  # the network of the stage before: weights, thresholds and leaks
            net = _build(self.options, self.data, spiking=True)
            net.load_state_dict(source.state())
            return net
        ann = _build(self.options, self.data, spiking=False)
        ann.load_state_dict(source.state())
        net = convert(ann.eval())
        batch = _normalise(self.data.train_images[:512], self.data)  # one batch of 512 (published code)
        set_thresholds(net, batch, steps, self.options.percentile)
        return net

    def _train(self, net: Net, name: str, label: str, steps: int | None, plan: Plan | None) -> Fitted:
        from edgekit.train import fit

        if plan is None:
            return Fitted(score=self._accuracy(net, steps, "validation"), epoch=0, epochs_run=0, seconds=0.0, history=())
        task = _Task(self.data, self.options, steps)
        return fit(
            self.fabric, net, task, plan, seed=self.options.seed, state_folder=self.out / f"{name}.state",
            progress=self.progress, what=label,
        )  # fmt: skip

    def _accuracy(self, net: Net, steps: int | None, split: str) -> float:
        import torch

        images, labels = getattr(self.data, f"{split}_images"), getattr(self.data, f"{split}_labels")
        net.eval()
        right = 0
        with torch.no_grad():
            for at in range(0, len(images), 200):
                logits = net(_normalise(images[at : at + 200], self.data), steps or 1)
                right += int((logits.argmax(1).numpy() == labels[at : at + 200]).sum())
        return right / max(1, len(images))

    def _row(self, net: Net, label: str, role: str, steps: int | None, fitted: Fitted) -> dict[str, Any]:
        rates, estimates = self._energy(net, steps)
        return {
            "label": label,
            "role": role,
            "steps": steps,
            "score": self._accuracy(net, steps, "test"),
            "validation": fitted.score,
            "epochs": fitted.epochs_run,
            "seconds": round(fitted.seconds, 2),
            "spikes_per_neuron": rates,
            "estimates": estimates,
        }

    def _energy(self, net: Net, steps: int | None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Spikes per neuron and inference, and the priced operation counts, over the first COUNTED test images."""
        from edgekit.models._iir_snn_net import convert, to_spiking_net

        images = self.data.test_images[:COUNTED]
        if steps is None:
            plain = to_spiking_net(convert(net.eval()), self.data.pixel_offset, self.data.pixel_max)
            counts = count_ann(plain, len(images))
            rates: dict[str, float] = {}
        else:
            spikes = self._count_spikes(net, images, steps)
            plain = to_spiking_net(net, self.data.pixel_offset, self.data.pixel_max)
            counts = count(plain, spikes, steps=steps)
            rates = {k: round(float(v.mean()), 6) for k, v in spikes.items()}
        prices = prices_of("horowitz45-fp32")
        priced = [dataclasses.asdict(price(counts, prices, memory)) for memory in (False, True)]
        return rates, priced


    def _count_spikes(self, net: Net, images: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        """Spikes of each neuron, summed over the steps: uint8 (N, *shape) per layer."""
        import torch

        found: dict[str, list[np.ndarray]] = {}
        now: dict[str, torch.Tensor] = {}

        def watch(layer: str, _: torch.Tensor, out: torch.Tensor) -> None:
            now[layer] = now[layer] + out if layer in now else out

        net.eval()
        with torch.no_grad():
            for at in range(0, len(images), 64):
                now.clear()
                net(_normalise(images[at : at + 64], self.data), steps, watch)
                for layer, total in now.items():
                    found.setdefault(layer, []).append(total.numpy().astype(np.uint8))
        return {layer: np.concatenate(parts) for layer, parts in found.items()}


class _TrainedNet(Trained):
    """A one-timestep checkpoint as the exporters see it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        if facts["steps"] != 1:
            kind = "the ANN" if facts["steps"] is None else f"a network of T={facts['steps']}"
            raise EdgekitError(
                f"{checkpoint.folder} holds {kind}; this version exports one-timestep networks: "
                "give the folder of a T=1 stage (t1), or train with a schedule that ends in 1"
            )
        self.checkpoint = checkpoint
        self.options = _options(facts["recipe"])
        self.data = load_images(self.options.data.name, (self.options.data.train_limit, self.options.data.test_limit))
        self.net = _build(self.options, self.data, spiking=True)
        self.net.load_state_dict(checkpoint.state())
        self.net.eval()
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        meaning = f"pixel intensity, 0..{self.data.pixel_max}"
        self.signature = Signature(
            (Tensor("image", "uint8", ("batch", *self.net.shape), meaning),),
            (Tensor("logits", "float32", ("batch", self.data.classes), "class scores; the largest is the answer"),),
        )
        samples = len(self.data.test_images)
        self.model = Model("iir_snn", facts["recipe"], self.sha256, "accuracy", facts["row"]["score"], samples)
        # 1e-5: float32 rounding of a few thousand products. 0.003: a spike that flips within 1e-6 of its threshold may turn
        # an image that stood on the edge; flips away from it are refused whatever the score.
        self.allowed = Allowed(output_max_abs={"logits": 1e-5}, near_threshold=1e-6, score_drop=0.003)
        self.probes = tuple(layer.name for layer in self.net.layers if not layer.readout)

    def module(self) -> torch.nn.Module:
        from edgekit.models._iir_snn_net import Deployed

        return Deployed(self.net, self.data.pixel_offset)

    def spiking_net(self) -> SpikingNet:
        from edgekit.models._iir_snn_net import to_spiking_net

        return to_spiking_net(self.net, self.data.pixel_offset, self.data.pixel_max)

    def golden(self) -> Golden:
        neurons = sum(int(np.prod(self.net.shapes[name])) for name in self.probes)
        return self.answers(self.data.test_images[: max(4, min(64, GOLDEN_VALUES // neurons))])

    def answers(self, images: np.ndarray) -> Golden:
        """The eager answers on any images uint8 (N, C, H, W): logits, spikes, and where u/V lies within 1e-6 of 1."""
        import torch

        probes: dict[str, np.ndarray] = {}
        near: dict[str, np.ndarray] = {}

        def watch(layer: str, current: torch.Tensor, out: torch.Tensor) -> None:
            distance = (current / self.net.neurons[layer].threshold - 1).abs().numpy()
            probes[layer] = out.numpy().astype(np.uint8)
            near[layer] = np.flatnonzero(distance < self.allowed.near_threshold).astype(np.int64)

        with torch.no_grad():
            logits = self.net(_normalise(images, self.data), 1, watch).numpy()
        return Golden({"image": images}, {"logits": logits}, probes, near)
