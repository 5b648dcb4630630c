"""The smallest voice converter: a preparation hears how loud a target is, a stream gives the sound back that loud and late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from edgekit import files, registry
from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, Model
from edgekit.parts import Exporter, Trained
from edgekit.program import Feed, Join, Phase, Program, Stream, once, value
from edgekit.signature import Signature, Tensor

RATE_HZ, HOP, HISTORY, DELAY = 16_000, 80, 48, 20  # all but the rate in samples
RNG = np.random.default_rng(11)
Arrays = Mapping[str, np.ndarray]


def loudness(target: np.ndarray) -> np.ndarray:
    """float32 (1, samples) -> (1, 1), the root of the mean square."""
    return np.sqrt(np.mean(np.square(target.astype(np.float64)), axis=1, keepdims=True)).astype(np.float32)


def converted(sound: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """float32 (1, samples) -> (1, whole hops): the sound, DELAY samples late, times the gain."""
    whole = -(-sound.shape[1] // HOP) * HOP
    late = np.zeros((1, whole), np.float32)
    late[:, DELAY : DELAY + sound.shape[1]] = sound[:, : whole - DELAY]
    return late * gain


class Loudness(torch.nn.Module):
    def forward(self, target: torch.Tensor) -> tuple[torch.Tensor]:
        return (target.square().mean(1, keepdim=True).sqrt(),)


class Late(torch.nn.Module):
    """A convolution whose only weight lies DELAY samples before the end, so that a calibrator finds something to round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 1, HISTORY + 1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, HISTORY - DELAY] = 1

    def forward(self, sound: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.conv(sound[:, None])[:, 0] * gain,)


class Toy(Trained):
    """A Trained of one module, as a family would give it."""

    def __init__(self, name: str, module: torch.nn.Module, signature: Signature, graph: Signature, program: Program, golden: Golden,
                 model: Model, prepares: Mapping[str, Trained] = {}, more: Mapping[str, int] = {}) -> None:  # fmt: skip
        self.name, self.sha256, self.signature, self.program, self.model = name, model.checkpoint_sha256, signature, program, model
        self.graphs, self.allowed, self.golden_note = {"main": graph}, Allowed({t.name: 1e-5 for t in signature.outputs}), GoldenNote("numpy", "drawn")
        self.prepares, self._module, self._golden, self._sizes = prepares, module, golden, more

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self._module

    def traced_sizes(self) -> Mapping[str, int]:
        return self._sizes

    def goldens(self) -> Sequence[Golden]:
        return [self._golden]


def noise(samples: int, loud: float = 0.2) -> np.ndarray:
    """float32 (1, samples)."""
    return np.clip(RNG.normal(size=(1, samples)) * loud, -1, 1).astype(np.float32)


def trained(folder: Path, checkpoint: str = "ab" * 32) -> Toy:
    """The converter with its preparation `voice`; calibration samples lie in `folder`."""
    sound, gain = Tensor("sound", "float32", (1, "samples"), "sound, -1..1", (), RATE_HZ), Tensor("gain", "float32", (1, 1), "how loud")
    target = Tensor("target", "float32", (1, "heard"), "sound, -1..1", (), RATE_HZ)
    y = Tensor("y", "float32", (1, "frames"), "sound, -1..1", (), RATE_HZ)
    calibration = folder / "calibration.npz"
    if not calibration.exists():
        np.savez(calibration, sound=np.concatenate([noise(400) for _ in range(20)]), gain=RNG.uniform(0.1, 1, (20, 1)).astype(np.float32))
    recipe = {"calibration": str(calibration), "calibration_sha256": files.sha256_of(calibration), "inputs": "sound,gain", "output": "y", "batch": "1"}
    model = Model("labelled", recipe, checkpoint, "accuracy", 0.0, 0)
    heard, given = noise(1000), {"sound": noise(410), "gain": np.float32([[0.5]])}
    voice = Toy("toy-voice", Loudness(), Signature((target,), (gain,)), Signature((target,), (gain,)), once(("target",), ("gain",)),
                Golden({"target": heard}, {"gain": loudness(heard)}), model, more={"heard": 400})  # fmt: skip
    chunk, piece = Tensor("sound", "float32", (1, HISTORY + HOP)), Tensor("y", "float32", (1, HOP))
    stream = Stream({"sound": Feed(1, HISTORY + HOP, HOP)}, (Phase(inputs={"sound": value("sound"), "gain": value("gain")}, outputs={"y": "y"}),),
                    {"y": Join("concat", 1, DELAY)})  # fmt: skip
    return Toy("toy", Late(), Signature((sound, gain), (y,)), Signature((chunk, gain), (piece,)), Program((stream,)),
               Golden(given, {"y": converted(given["sound"], given["gain"])}), model, {"voice": voice})  # fmt: skip


def export(folder: Path, checkpoint: str = "ab" * 32) -> Bundle:
    """The ONNX bundle of trained()."""
    part = registry.find(Exporter, "onnx")
    return part.export(trained(folder, checkpoint), folder / f"onnx-{checkpoint[:2]}", part.options)
