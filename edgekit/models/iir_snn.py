"""IIR-SNN: a spiking network compressed from T=5 to one timestep; exported with its loop at any T."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import stepped_net
from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint, open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._iir_snn_options import Options, build, for_steps, images_of, normalise, options_of
from edgekit.parts import Arrays, Family, Score, Trained
from edgekit.program import Feed, Join, Phase, Program, State, Stream, once, value
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import SpikingNet
from edgekit.stepped_net import FloatNeuron, SteppedNet

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

        return Fit(recipe, out, progress, images_of(recipe), launch(devices, nodes)).run()

    def load(self, checkpoint: Path) -> Trained:
        """The trained one-timestep network."""
        return _TrainedNet(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """Accuracy over the test samples, BATCH at a time; a stream is asked after its last time bin."""
        options = options_of(model.recipe)
        images, labels = test_set(options, model.steps or 1)
        images, labels = images[:limit], labels[:limit]
        name = "frames" if images.ndim == 5 else "image"
        right = 0
        for at in range(0, len(images), BATCH):
            logits = run({name: images[at : at + BATCH]})["logits"]
            last = logits[:, -1] if images.ndim == 5 else logits
            right += int((last.argmax(1) == labels[at : at + BATCH]).sum())
        return Score("accuracy", right / len(images), len(images))


    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Validation images, evenly spread over the set: the network was not fitted to them."""
        return _spread(images_of(options_of(model.recipe)).validation_images, model, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Test images, evenly spread over the set."""
        return _spread(images_of(options_of(model.recipe)).test_images, model, limit)


PART = IirSnn()


def _spread(images: np.ndarray, model: Model, limit: int) -> dict[str, np.ndarray]:
    every = images[:: max(1, len(images) // limit)][:limit]
    chosen = for_steps(every, model.steps or 1)
    return {"frames" if chosen.ndim == 5 else "image": chosen}


class _TrainedNet(Trained):
    """A spiking checkpoint of any T as the exporters see it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from edgekit.models._iir_snn_net import fused

        facts = checkpoint.facts
        if facts["steps"] is None:
            raise EdgekitError(
                f"{checkpoint.folder} holds the ANN, which does not spike; give the folder of a stage, such as t1"
            )
        self.checkpoint, self.steps = checkpoint, int(facts["steps"])
        self.options = options_of(facts["recipe"])
        self.data = images_of(self.options)
        trained = build(self.options, self.data, spiking=True)
        trained.load_state_dict(checkpoint.state())
        self.net = fused(trained.eval()).eval()
        self.images, _ = test_set(self.options, self.steps)
        self.streams = self.images.ndim == 5  # (N, T, C, H, W): another input at each step
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.model = Model(
            "iir_snn", facts["recipe"], self.sha256, "accuracy", facts["row"]["score"], len(self.images), self.steps
        )
        # 1e-5: float32 rounding of a few thousand products. near_threshold: each step adds one rounding to a membrane.
        # 0.003: a spike that flips there may turn an image that stood on the edge; flips away from it are refused anyway.
        self.allowed = Allowed(output_max_abs={"logits": 1e-5}, near_threshold=1e-6 * self.steps, score_drop=0.003)
        spiking = tuple(layer.name for layer in self.net.layers if not layer.readout)
        self.probes = {"main": spiking}
        self.signature, graph, self.program = describe(
            self.net, self.data.classes, self.steps, self.streams, f"pixel intensity, 0..{self.data.pixel_max}"
        )
        self.graphs = {"main": graph}
        import torch

        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "held-out test data")

    def module(self, graph: str = "main") -> torch.nn.Module:
        from edgekit.models._iir_snn_deploy import Deployed, Step

        if self.steps == 1 and not self.streams:
            return Deployed(self.net, self.data.pixel_offset)
        return Step(self.net, self.data.pixel_offset)

    def spiking_net(self) -> SpikingNet:
        from edgekit.models._iir_snn_net import to_spiking_net

        if self.steps != 1 or self.streams:
            raise EdgekitError(f"'{self.name}' has {self.steps} timesteps; formats nir and lava take one-timestep networks")
        return to_spiking_net(self.net, self.data.pixel_offset, self.data.pixel_max)

    def stepped_net(self) -> SteppedNet:
        from edgekit.models._iir_snn_net import leak_of, threshold_of, to_spiking_net

        net = to_spiking_net(self.net, self.data.pixel_offset, self.data.pixel_max)
        neurons = {
            # OR pooling forgets: it fires where its window fires now.
            p.name: FloatNeuron(threshold_of(self.net, p.name), leak_of(self.net, p.name)) if p.name in self.net.neurons else FloatNeuron(0.5, 0.0)
            for p in net.populations
            if p.spiking
        }
        return stepped_net.quantise(net, neurons)

    def goldens(self) -> list[Golden]:
        neurons = self.steps * sum(int(np.prod(self.net.shapes[name])) for name in self.probes["main"])
        count = max(4, min(64, GOLDEN_VALUES // neurons))
        return [self.answers(self.images[:count])]

    def answers(self, images: np.ndarray) -> Golden:
        """The eager answers on images uint8 (N, C, H, W) or (N, T, C, H, W): logits, spikes, and where u/V is close to 1.

        Membranes are followed beside the network, by the equation of _lif.py.
        """
        import torch

        from edgekit.models._iir_snn_net import leak_of, threshold_of

        probes: dict[str, list[np.ndarray]] = {n: [] for n in self.probes["main"]}
        far: dict[str, list[np.ndarray]] = {n: [] for n in self.probes["main"]}
        membranes: dict[str, torch.Tensor] = {}

        def watch(layer: str, current: torch.Tensor, out: torch.Tensor) -> None:
            if layer not in self.net.neurons:  # OR pooling counts spikes: nothing is near
                probes[layer].append(out.numpy().astype(np.uint8))
                far[layer].append(np.ones_like(out.numpy()))
                return
            threshold = threshold_of(self.net, layer)
            u = current if layer not in membranes else leak_of(self.net, layer) * membranes[layer] + current
            membranes[layer] = u - threshold * out
            probes[layer].append(out.numpy().astype(np.uint8))
            far[layer].append((u / threshold - 1).abs().numpy())

        totals = []
        with torch.no_grad():
            x = normalise(images, self.data)
            whole = self.net(x, self.steps, watch).numpy()
            if self.streams:  # the read-out after each time bin, summed in the order of the stream
                totals = [self.net(x[:, : t + 1], t + 1).numpy() for t in range(self.steps)]
        logits = np.stack(totals, 1) if self.streams else whole
        loops = self.program.loops("main")
        spikes = {n: np.stack(v) if loops else v[0] for n, v in probes.items()}
        near = {
            n: np.flatnonzero((np.stack(v) if loops else v[0]) < self.allowed.near_threshold).astype(np.int64)
            for n, v in far.items()
        }
        return Golden({"frames" if self.streams else "image": images}, {"logits": logits}, spikes, near)


def test_set(options: Options, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """What a network of T=`steps` is tested on: uint8 (N, C, H, W) or (N, steps, C, H, W), and labels int64 (N,)."""
    data = images_of(options)
    return for_steps(data.test_images, steps), data.test_labels


def describe(net: Any, classes: int, steps: int, streams: bool, meaning: str) -> tuple[Signature, Signature, Program]:
    """(program's signature, step graph's signature, program) of a network: one graph once, T steps, or a stream of bins."""
    scores = "class scores; the largest is the answer"
    image = Tensor("image", "uint8", ("batch", *net.shape), meaning)
    logits = Tensor("logits", "float32", ("batch", classes), scores)
    plain = Signature((image,), (logits,))
    if steps == 1 and not streams:
        return plain, plain, once(("image",), ("logits",))
    shapes: dict[str, tuple[int | str, ...]] = {
        f"u_{layer.name}": ("batch", *net.shapes[layer.name]) for layer in net.layers if layer.learns
    }
    shapes["logits"] = ("batch", classes)
    graph = Signature(
        (image, *(Tensor(n, "float32", s) for n, s in shapes.items())),
        tuple(Tensor(f"{n}_next", "float32", s) for n, s in shapes.items()),
    )
    states = {n: State("float32", s) for n, s in shapes.items()}
    inputs = {n: value(n) for n in ("image", *shapes)}
    carry = {f"{n}_next": n for n in shapes}
    if not streams:
        return plain, graph, Program((Phase("main", "steps", steps, inputs=inputs, states=states, carry=carry),))
    frames = Tensor("frames", "uint8", ("batch", "bins", *net.shape), "events in a time bin, by polarity")
    whole = Signature((frames,), (Tensor("logits", "float32", ("batch", "bins", classes), f"{scores}, after each bin"),))
    phase = Phase("main", inputs={**inputs, "image": value("frames")}, carry=carry)
    return whole, graph, Program((Stream({"frames": Feed(1)}, (phase,), {"logits": Join("stack", 1)}, states),))
