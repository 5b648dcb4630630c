"""IIR-SNN: a spiking network compressed from T=5 to one timestep by iterative initialisation and retraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import Allowed, Golden, Model
from edgekit.checkpoint import Checkpoint, open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._iir_snn_options import Options, build, normalise, options_of
from edgekit.models._images import load_images
from edgekit.parts import Arrays, Family, Score, Trained
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import SpikingNet

if TYPE_CHECKING:
    import torch

BATCH = 250  # images scored at a time
GOLDEN_VALUES = 4_000_000  # at most so many golden spikes a bundle; few images of a large network, 64 of a small one


class IirSnn(Family):
    """Chowdhury, Rathi, Roy, "One Timestep is All You Need", arXiv 2110.05929."""

    needs = ("torch", "sklearn", "lightning_fabric")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """ANN -> conversion -> each T of the schedule -> controls; what is done already is kept."""
        from edgekit.models._iir_snn_fit import Fit
        from edgekit.train import launch

        data = load_images(recipe.data.name, (recipe.data.train_limit, recipe.data.test_limit))
        return Fit(recipe, out, progress, data, launch(devices, nodes)).run()

    def load(self, checkpoint: Path) -> Trained:
        """The trained one-timestep network."""
        return _TrainedNet(open_checkpoint(checkpoint))

    def score(self, recipe: Mapping[str, Any], run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """Accuracy over the test images, BATCH at a time."""
        options = options_of(recipe)
        data = load_images(options.data.name, (options.data.train_limit, options.data.test_limit))
        images, labels = data.test_images[:limit], data.test_labels[:limit]
        right = 0
        for at in range(0, len(images), BATCH):
            logits = run({"image": images[at : at + BATCH]})["logits"]
            right += int((logits.argmax(1) == labels[at : at + BATCH]).sum())
        return Score("accuracy", right / len(images), len(images))


PART = IirSnn()


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
        self.options = options_of(facts["recipe"])
        self.data = load_images(self.options.data.name, (self.options.data.train_limit, self.options.data.test_limit))
        self.net = build(self.options, self.data, spiking=True)
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

        from edgekit.models._iir_snn_net import threshold_of

        probes: dict[str, np.ndarray] = {}
        near: dict[str, np.ndarray] = {}

        def watch(layer: str, current: torch.Tensor, out: torch.Tensor) -> None:
            distance = (current / threshold_of(self.net, layer) - 1).abs().numpy()
            probes[layer] = out.numpy().astype(np.uint8)
            near[layer] = np.flatnonzero(distance < self.allowed.near_threshold).astype(np.int64)

        with torch.no_grad():
            logits = self.net(normalise(images, self.data), 1, watch).numpy()
        return Golden({"image": images}, {"logits": logits}, probes, near)
