"""The smallest program that decides: a front end with a Fourier matrix, a choice of codes by their largest logit, and a voice for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekit import files, registry
from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, Model
from edgekit.parts import Exporter, Trained
from edgekit.program import Feed, Join, Phase, Program, Stream, value
from edgekit.signature import Signature, Tensor

HOP, WIDTH, CODES, LATENT = 80, 64, 48, 16


class Listen(nn.Module):
    """Sound (1, HOP) -> what is said (1, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        angle = 2 * np.pi * np.outer(np.arange(HOP), np.arange(HOP // 2 + 1)) / HOP
        self.register_buffer("forth", torch.tensor(np.concatenate([np.cos(angle), np.sin(angle)], 1), dtype=torch.float32))
        self.first, self.last = nn.Linear(HOP // 2 + 1, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, sound: torch.Tensor) -> tuple[torch.Tensor]:
        real, imaginary = (sound @ self.forth).chunk(2, -1)
        return (self.last(self.first((real * real + imaginary * imaginary + 1e-3).log()).relu()).tanh(),)


class Pick(nn.Module):
    """What is said -> a code int64 (1,) and its latents (1, LATENT)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CODES)
        self.register_buffer("book", torch.randn(CODES, LATENT))

    def forward(self, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.last(self.first(said).relu()).argmax(-1)
        return code, self.book[code]


class Speak(nn.Module):
    """Latents and code -> samples (1, HOP)."""

    def __init__(self) -> None:
        super().__init__()
        self.wave, self.louder = nn.Linear(LATENT, HOP), nn.Embedding(CODES, HOP)

    def forward(self, latents: torch.Tensor, code: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.wave(latents) * 0.1 + self.louder(code) * 0.1,)


class Decider(Trained):
    """The three as a stream: sound (1, samples) -> speech (1, samples), codes (1, chunks)."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(3)
        self.modules = {"listen": Listen(), "pick": Pick(), "speak": Speak()}
        with torch.no_grad():  # codes that differ from chunk to chunk, as those of a trained network do
            self.modules["pick"].last.weight *= 4
        sound, said = Tensor("sound", "float32", (1, HOP)), Tensor("said", "float32", (1, WIDTH))
        code, latents = Tensor("code", "int64", (1,)), Tensor("latents", "float32", (1, LATENT))
        speech = Tensor("speech", "float32", (1, HOP))
        self.graphs = {
            "listen": Signature((sound,), (said,)), "pick": Signature((said,), (code, latents)), "speak": Signature((latents, code), (speech,)),
        }  # fmt: skip
        phases = tuple(
            Phase(g, inputs={t.name: value(t.name) for t in s.inputs}, outputs={t.name: t.name for t in s.outputs}) for g, s in self.graphs.items()
        )
        joins = {"speech": Join("concat", 1), "code": Join("stack", 1)}
        self.program = Program((Stream({"sound": Feed(1, HOP, HOP)}, phases, joins),))
        self.signature = Signature(
            (Tensor("sound", "float32", (1, "samples"), "sound, -1..1", (), 16_000),),
            (Tensor("speech", "float32", (1, "spoken"), "sound, -1..1", (), 16_000), Tensor("code", "int64", (1, "chunks"), "what was chosen")),
        )
        calibration = folder / "calibration.npz"
        np.savez(calibration, sound=np.concatenate([noise(HOP * 10, seed) for seed in range(20)]))
        recipe = {"calibration": str(calibration), "calibration_sha256": files.sha256_of(calibration), "inputs": "sound", "output": "speech", "batch": "1"}
        self.name, self.sha256, self.model = "decider", "cd" * 32, Model("labelled", recipe, "cd" * 32, "accuracy", 0.0, 0)
        self.allowed, self.golden_note = Allowed({"speech": 1e-5}), GoldenNote("torch", "drawn")

    def module(self, graph: str = "main") -> nn.Module:
        return self.modules[graph].eval()

    def goldens(self) -> Sequence[Golden]:
        return [self.golden(100, 101), self.golden(60, 103)]

    @torch.no_grad()
    def golden(self, chunks: int, seed: int) -> Golden:
        sound = noise(HOP * chunks - 7, seed)
        codes, speech = [], []
        for piece in np.pad(sound, ((0, 0), (0, 7))).reshape(chunks, 1, HOP):
            code, latents = self.modules["pick"](*self.modules["listen"](torch.from_numpy(piece)))
            codes.append(code.numpy())
            speech.append(self.modules["speak"](latents, code)[0].numpy())
        return Golden({"sound": sound}, {"speech": np.concatenate(speech, 1), "code": np.stack(codes, 1)})


def noise(samples: int, seed: int) -> np.ndarray:
    """float32 (1, samples), louder and quieter from chunk to chunk."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0.01, 0.5, -(-samples // HOP)), HOP)[:samples]
    return (rng.normal(size=(1, samples)) * loud).astype(np.float32)


def export(folder: Path) -> Bundle:
    """The ONNX bundle."""
    part = registry.find(Exporter, "onnx")
    return part.export(Decider(folder), folder / "onnx", part.options)


def reweighted(bundle: Bundle, out: Path, change: Mapping[str, object]) -> Path:
    """A copy of a bundle, sealed anew, in which the weights of some graphs are shuffled. change: graph -> seed."""
    import json
    import shutil

    import onnx
    from onnx import numpy_helper

    shutil.copytree(bundle.folder, out, ignore=shutil.ignore_patterns("evidence"))
    manifest = json.loads((out / "bundle.json").read_text())
    for graph, seed in change.items():
        path = out / bundle.manifest.graphs[graph].file
        model = onnx.load(path)
        for t in model.graph.initializer:
            if len(t.dims) == 2 and t.dims[0] > 1:
                values = numpy_helper.to_array(t)
                t.CopyFrom(numpy_helper.from_array(np.random.default_rng(seed).permutation(values, axis=0), t.name))
        onnx.save(model, path)
        manifest["files"][path.name] = files.sha256_of(path)
    (out / "bundle.json").write_text(files.canonical_json(manifest))
    return out
