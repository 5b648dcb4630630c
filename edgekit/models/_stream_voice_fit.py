"""How a voice converter is trained: a teacher of what is said, the causal encoder, the codec, and the language model between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from edgekit import files
from edgekit.bundle import Model
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._stages import Stages
from edgekit.models._stream_voice_figures import SYSTEMS, Figures
from edgekit.models._stream_voice_options import TRAINED_ALIKE, Options, variant
from edgekit.models._stream_voice_tables import tables
from edgekit.models._voice.bundled import Bundled, facts_of
from edgekit.models._voice.codec import Codec, codec_of
from edgekit.models._voice.codec_task import CodecTask
from edgekit.models._voice.converter import Converter
from edgekit.models._voice.converter_task import ConverterTask
from edgekit.models._voice.corpora import Clip, of_part, part
from edgekit.models._voice.features import Running
from edgekit.models._voice.frames import Frames, frames_of
from edgekit.models._voice.learner import Learner
from edgekit.models._voice.pairing import digit_strings
from edgekit.models._voice.pictured import pictures
from edgekit.models._voice.scored import runner, score
from edgekit.models._voice.semantic import SemanticEncoder, SemanticTeacher
from edgekit.models._voice.semantic_task import SemanticTask
from edgekit.models._voice.source_filter import SourceFilterCodec
from edgekit.models._voice.structure import Structure
from edgekit.models._voice.voices import Voices, voices_of
from edgekit.models._voice.whole import Whole
from edgekit.parts import Score

Net = TypeVar("Net", bound=torch.nn.Module)
# Linear layers of a converter that take in or give out, which Muon leaves alone.
GIVEN_OUT = ("foresight", "predictor.pitch", "predictor.heads", "predictor.latent.3", "semantic", "acoustic")
STRING = "fsdd"  # the set of single digits, which are learned as strings: a digit alone is shorter than a piece


Spelled = Callable[[str], list[int]]


def training_clips(options: Options) -> tuple[tuple[Clip, ...], int, Spelled | None]:
    """What a recipe learns from, how many phones the made speech has, and the phones of digits where they are known."""
    d = options.data
    real = part(d.real, "train", d.with_validation) if d.real else ()
    strings = digit_strings([c for c in real if c.corpus == STRING])
    made: tuple[Clip, ...] = ()
    spelled: Spelled | None = None
    if d.synthetic:
        from edgekit.models._voice import espeak

        made, phones, spelled = espeak.synthetic(d.synthetic), len(espeak.PHONES), espeak.spelled
    else:
        from edgekit.models._voice import generated

        made, phones = of_part(generated.generated(d.generated), "train"), len(generated.PHONES)
    return (*(c for c in real if c.corpus != STRING), *strings, *made), phones, spelled


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, fabric: Any) -> None:
        self.options, self.out, self.progress, self.fabric = options, out, progress, fabric
        clips, self.phones, self.spelled = training_clips(options)
        progress("measuring the speech", 0, 1)
        self.frames: Frames = frames_of(clips)
        self.stages = Stages("stream_voice", options, out, progress, {"speech": self.frames.sha256}, fabric)

    @cached_property
    def running(self) -> Running:
        """Running means that begin at the mean of the real voices, or of all where none is real."""
        running = Running()
        running.first.copy_(torch.from_numpy(self.frames.bands(self.recorded).mean(0)))
        return running

    @property
    def recorded(self) -> np.ndarray:
        """Frames of recorded speech, or all where none is: int64 (frames,)."""
        made = np.repeat(self.frames.made, self.frames.lengths)
        return np.flatnonzero(~made if len(self.options.data.real) else made)

    def run(self) -> Path:
        """Train what is not trained yet, judge what is not judged yet; the checkpoint folder to deploy, of the first seed."""
        o = self.options
        made = {seed: self.made(seed) for seed in o.seeds}
        net = bundled(made[o.seeds[0]])
        facts = {
            "family": "stream_voice", "name": self.out.parent.name, "recipe": self.stages.recipe, "form": "converter", "seed": o.seeds[0],
            **facts_of(net, dataclasses.asdict(o.codec)), "parameters": sum(p.numel() for p in net.parameters()),
        }  # fmt: skip
        model = Model("stream_voice", self.stages.recipe, "", "", 0.0, 0)
        scores = {seed: score(model, runner(bundled(stages).whole(o.temperature))) for seed, stages in made.items()}
        if self.fabric.is_global_zero:
            own = scores[o.seeds[0]]
            save_checkpoint(self.out / "converter", net, {**facts, "score_name": own.name, "score": own.value, "score_samples": own.samples})
            found, variants = self._judged(made), self._variants(made)
            result = {
                "score_name": own.name, "test_samples": own.samples, "deploy": "converter",
                "rows": [self._row(seed, scores[seed], made[seed]) for seed in o.seeds],
                "tables": tables(found, variants) if found else [], "pictures": pictures(net.whole(o.temperature), self.stages.recipe, self.out),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / "converter"

    def _judged(self, made: Mapping[int, Mapping[str, Checkpoint]]) -> dict[int, dict[str, Any]]:
        """What the judges say of each seed; nothing where there are none on this machine."""
        figures = Figures(self.options)
        if not figures.possible:
            return {}
        found = {}
        for seed, stages in made.items():
            whole = bundled(stages).whole(self.options.temperature)

            def codec(whole: Whole = whole) -> dict[str, Any]:
                return {str(n): figures.codec(whole, n) for n in range(1, self.options.codec.levels + 1)}

            self.progress(f"judging seed {seed}", 0, 1)
            found[seed] = {
                "codec": self.stages.stored(stages["codec"], "codec", codec),
                "probes": self.stages.stored(stages["encoder"], "probes", partial(figures.probes, whole)),
                "systems": {
                    n: self.stages.stored(stages["converter"], n, partial(figures.system, n, whole), {"temperature": self.options.temperature})
                    for n in SYSTEMS
                },
            }  # fmt: skip
        return found

    def _variants(self, made: Mapping[int, Mapping[str, Checkpoint]]) -> dict[str, dict[int, Any]]:
        """The recipe's ablations of each seed, trained and judged."""
        figures = Figures(self.options)
        found: dict[str, dict[int, Any]] = {}
        for name in self.options.ablations if figures.possible else ():
            changed = variant(self.options, name)
            for seed, stages in made.items():
                converter = self.converter(seed, changed, stages, name)
                whole = bundled({**stages, "converter": converter}, changed.network).whole(changed.temperature)
                told = {"temperature": changed.temperature, "history": changed.network.history}
                judge = partial(figures.system, "model", whole)
                found.setdefault(name, {})[seed] = self.stages.stored(converter, f"model.{name.replace(' ', '_')}", judge, told)
        return found

    def _row(self, seed: int, found: Score, stages: Mapping[str, Checkpoint]) -> dict[str, Any]:
        return {
            "label": f"converter, seed {seed}", "role": "model" if seed == self.options.seeds[0] else "baseline", "steps": None,
            "score": found.value, "validation": None, "epochs": stages["converter"].facts["epochs"],
            "seconds": sum(self.stages.seconds(s) for s in stages.values()), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def made(self, seed: int) -> dict[str, Checkpoint]:
        """All stages of a seed."""
        o, s, f = self.options, self.stages, self.frames
        first = self.running.first

        def named(**more: Any) -> Any:
            return lambda _: more

        teacher = s.made(
            "teacher", seed, o.training.teacher, [], {},
            lambda: ((net := Learner(SemanticTeacher(self.phones))), SemanticTask(f, self.running, None, self.spelled)), named(phones=self.phones),
        )  # fmt: skip
        encoder = s.made(
            "encoder", seed, o.training.encoder, [teacher], {},
            lambda: (Learner(SemanticEncoder(self.phones)), SemanticTask(f, self.running, loaded_teacher(teacher), self.spelled)),
            named(phones=self.phones, first=first.tolist()),
        )  # fmt: skip
        codec = s.made(
            "codec", seed, o.training.codec, [], dataclasses.asdict(o.codec), lambda: (Learner(self._new_codec()), CodecTask(f)),
            named(**dataclasses.asdict(o.codec)),
        )  # fmt: skip
        stages = {"teacher": teacher, "encoder": encoder, "codec": codec}
        return {**stages, "converter": self.converter(seed, o, stages)}

    def converter(self, seed: int, options: Options, stages: Mapping[str, Checkpoint], variant: str = "") -> Checkpoint:
        """The converter of a seed; of a variant under another name. Whether it looks at its history when it runs is decided later."""
        network = dataclasses.replace(options.network, history=False)
        shape = {"network": dataclasses.asdict(network), "hiding": dataclasses.asdict(options.hiding)}
        parents = [stages[n] for n in ("teacher", "encoder", "codec")]

        def starts() -> tuple[Learner, ConverterTask]:
            books = loaded_codec(stages["codec"]).quantiser.books
            net = Learner(Converter(network, books), GIVEN_OUT)
            return net, ConverterTask(self.voices(*parents), options.hiding)

        name = TRAINED_ALIKE.get(variant, variant) or "converter"
        return self.stages.made(name.replace(" ", "_"), seed, options.training.converter, parents, shape, starts, lambda _: shape)

    def voices(self, teacher: Checkpoint, encoder: Checkpoint, codec: Checkpoint) -> Voices:
        """What trained networks make of the speech."""
        self.progress("listening to the speech", 0, 1)
        return voices_of(self.frames, self.running, loaded_encoder(encoder)[0], loaded_teacher(teacher), loaded_codec(codec))

    def _new_codec(self) -> Any:
        codec = codec_of(**dataclasses.asdict(self.options.codec))
        if isinstance(codec, SourceFilterCodec):
            bands = self.frames.bands(self.recorded)
            codec.mean.copy_(torch.from_numpy(bands.mean(0)))
            codec.deviation.copy_(torch.from_numpy(bands.std(0)))
        return codec


def loaded_teacher(checkpoint: Checkpoint) -> SemanticTeacher:
    """The teacher of a stage, in eval mode."""
    net = SemanticTeacher(int(checkpoint.facts["phones"]))
    return _filled(net, checkpoint)


def loaded_encoder(checkpoint: Checkpoint) -> tuple[SemanticEncoder, Running]:
    """The encoder of a stage, in eval mode, and the running means that it learned behind."""
    running = Running()
    running.first.copy_(torch.tensor(checkpoint.facts["first"]))
    return _filled(SemanticEncoder(int(checkpoint.facts["phones"])), checkpoint), running


def loaded_codec(checkpoint: Checkpoint) -> Codec:
    """The codec of a stage, in eval mode."""
    f = checkpoint.facts
    codec: Any = codec_of(f["kind"], f["width"], f["levels"], f["entries"])
    found: Codec = _filled(codec, checkpoint)
    return found


def loaded_converter(checkpoint: Checkpoint, network: Structure) -> Converter:
    """The converter of a stage as `network` says it is run, in eval mode."""
    return _filled(Converter(network, checkpoint.state()["predictor.books"]), checkpoint)


def _filled(net: Net, checkpoint: Checkpoint) -> Net:
    net.load_state_dict(checkpoint.state())
    return net.eval().requires_grad_(False)


def bundled(stages: Mapping[str, Checkpoint], network: Structure | None = None) -> Bundled:
    """The networks of a seed as one module, in eval mode. network: as it is run, where that is not what the recipe says."""
    encoder, running = loaded_encoder(stages["encoder"])
    converter = loaded_converter(stages["converter"], network or Structure(**stages["converter"].facts["recipe"]["network"]))
    return Bundled(running, encoder, loaded_codec(stages["codec"]), converter).eval()
