"""A trained converter to the exporters: the stream, its graphs, the preparation of a voice beside it, and golden answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError
from edgekit.models._voice.bundled import Bundled, bundled_of
from edgekit.models._voice.deploy import Continue, Heard, Listen, Predict, Recite, Speak
from edgekit.models._voice.describe import describe, describe_preparation
from edgekit.models._voice.scored import material
from edgekit.models._voice.spectra import HOP
from edgekit.models._voice.whole import Voice, Whole
from edgekit.parts import Trained

# Samples between torch over a whole recording and any engine frame by frame: sums of hundreds of products in float32.
ALLOWED_MAX_ABS = 1e-5
# What 120 digits can tell where other codes are chosen: an eighth of them or so is understood otherwise, some better and some worse, and
# 1.65 times sqrt(1/8 / 120) is 0.05. With equal codes nothing is lost at all.
SCORE_DROP = 0.05
GOLDEN_FRAMES = (75, 37)  # of the sources


class TrainedConverter(Trained):
    """A checkpoint `converter`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a stage that was only trained on the way."""
        facts = checkpoint.facts
        if facts["form"] != "converter":
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['stage']}' of seed {facts['seed']}, one stage of the training; give the folder converter beside it"
            )
        self.name, self.sha256, self.recipe = str(facts["name"]), checkpoint.sha256, facts["recipe"]
        self.net, self.temperature = bundled_of(checkpoint), float(facts["recipe"]["temperature"])
        listen, speak, converter = Listen(self.net.running, self.net.encoder), Speak(self.net.codec), self.net.converter
        self.modules = {
            "prompt": Recite(converter), "encoder": listen, "language": Continue(converter), "predictor": Predict(converter, self.temperature),
            "decoder": speak,
        }  # fmt: skip
        found = describe(listen, converter, speak, self.temperature)
        self.signature, self.graphs, self.program, self.tensors = found.signature, found.graphs, found.program, found.tensors
        self.model = Model("stream_voice", self.recipe, self.sha256, facts["score_name"], facts["score"], facts["score_samples"])
        self.allowed = Allowed(output_max_abs={"speech": ALLOWED_MAX_ABS}, score_drop=SCORE_DROP)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager, over the whole recording", "held-out speech")
        self.whole: Whole = self.net.whole(self.temperature)
        self.prepares = {"voice": TrainedPreparation(self)}

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self.modules[graph].eval()

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of the graph equals."""
        return {"prompt": 57}

    def goldens(self) -> Sequence[Golden]:
        """Two sources of other lengths, with voices of other lengths."""
        found = []
        sources, targets = material(self.recipe, "test")
        for frames, source, target in zip(GOLDEN_FRAMES, sources, targets, strict=False):
            samples = source.samples[: frames * HOP]
            voice = self.whole.voice(target.samples)
            speech, codes = self.whole.stream(voice, samples)
            found.append(Golden({"audio": samples[None], **inputs_of_voice(voice)}, {"speech": speech[None], "codes": codes[None]}))
        return found


class TrainedPreparation(Trained):
    """What makes a voice of a recording."""

    def __init__(self, of: TrainedConverter) -> None:
        self.name, self.sha256, self.of = f"{of.name} voice", of.sha256, of
        net: Bundled = of.net
        self.heard = Heard(Listen(net.running, net.encoder), net.codec)
        found = describe_preparation(self.heard)
        self.signature, self.graphs, self.program, self.tensors = found.signature, found.graphs, found.program, found.tensors
        self.model, self.golden_note = None, of.golden_note
        self.allowed = Allowed(output_max_abs={"target_said": ALLOWED_MAX_ABS, "target_latents": 1e-4})

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self.heard.eval()

    def goldens(self) -> Sequence[Golden]:
        """Two recordings of other lengths."""
        _, targets = material(self.of.recipe, "test")
        found = []
        for target, frames in zip(targets, (100, 60), strict=False):
            samples = target.samples[: frames * HOP]
            found.append(Golden({"target": samples[None]}, inputs_of_voice(self.of.whole.voice(samples))))
        return found


def inputs_of_voice(voice: Voice) -> dict[str, np.ndarray]:
    """A voice as inputs of the program."""
    return {"target_said": voice.said.numpy(), "target_latents": voice.latents.numpy(), "target_tokens": voice.tokens.numpy()}
