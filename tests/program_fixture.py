"""One bundle of each kind of program, made once a test session: two spiking networks, an event stream, a voice stream, a sampler."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from edgekit import data, flow
from edgekit.intake import Wishes
from edgekit.program import Feed

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("snn_t1", "snn_t4", "nmnist", "silero", "diffusion")
NMNIST = """
family = "iir_snn"
schedule = [4]
controls = false
[network]
name = "custom"
layers = [4, "A", 8, "A"]
hidden = [16]
[data]
name = "nmnist"
train_limit = 120
test_limit = 20
[ann]
epochs = 3
batch_size = 24
learning_rate = 0.003
[snn]
epochs = 2
batch_size = 24
learning_rate = 0.002
"""


def needs(name: str) -> tuple[str, ...]:
    """The data sets that a bundle is made of."""
    return {"nmnist": ("nmnist_small",), "silero": ("models", "librispeech_mini")}.get(name, ())


def speech() -> np.ndarray:
    """Real speech, float32 [1, samples] at 16 kHz, the last chunk begun but not whole."""
    import soundfile

    samples, rate_hz = soundfile.read(sorted(data.require("librispeech_mini").glob("*.flac"))[0], dtype="float32", frames=24_100)
    assert rate_hz == 16_000
    return np.ascontiguousarray(samples[None])


def make(name: str, folder: Path, small_run: Path) -> Path:
    """The bundle of that name in `folder`, unless it is there; the caller holds a lock."""
    out = folder / name
    if (out / "bundle.json").exists():
        return out
    if name in ("snn_t1", "snn_t4"):
        flow.export(small_run / "train" / name.removeprefix("snn_"), "onnx", out)
    elif name == "nmnist":
        recipe = folder / "nmnist.toml"
        recipe.write_text(NMNIST)
        flow.train(recipe, folder / "nmnist_run")
        flow.export(folder / "nmnist_run", "onnx", out)
    elif name == "silero":
        np.savez(folder / "speech.npz", input=speech())
        wishes = Wishes(states={"stateN": "state"}, chunks={"input": Feed(1, 576, 512)}, constants={"sr": 16000},
                        sizes={"batch": 1}, example=str(folder / "speech.npz"))  # fmt: skip
        flow.export(str(data.require("models") / "silero_vad_16k_op15.onnx"), "onnx", out, wishes)
    else:
        spec = importlib.util.spec_from_file_location("diffusion_loop", EXAMPLES / "diffusion_loop.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.export(out)
    return out
