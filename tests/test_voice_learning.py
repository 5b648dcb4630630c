"""What the voice networks learn from: batches that follow from their seed, losses against closed forms, what is hidden and perturbed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgekit.errors import EdgekitError
from edgekit.models import _stream_voice_tables as tables
from edgekit.models._voice import codec_task, converter_task, espeak, frames, semantic_task
from edgekit.models._voice.codec import LATENT, token_hz
from edgekit.models._voice.converter import PROMPT, Converter, pooled_of
from edgekit.models._voice.corpora import Clip
from edgekit.models._voice.features import Running
from edgekit.models._voice.generated import PHONES, generated
from edgekit.models._voice.learner import Learner
from edgekit.models._voice.semantic import LOOK_AHEAD, SemanticEncoder, SemanticTeacher
from edgekit.models._voice.source_filter import SourceFilterCodec
from edgekit.models._voice.spectra import BANDS, HOP
from edgekit.models._voice.structure import Hiding, Structure
from edgekit.models._voice.voices import Voices, voices_of


@pytest.fixture(scope="module")
def known() -> frames.Frames:
    """Half of the clips say their phones, a quarter are spelled, the rest are only sound."""
    clips = list(generated(24, 4))
    for i in range(12, 24):
        clips[i] = dataclasses.replace(clips[i], phones=None)
    for i in range(12, 18):
        clips[i] = dataclasses.replace(clips[i], text="12", spans=((0, 1000), (2000, 1000)))
    return frames.frames_of(clips)


@pytest.fixture(scope="module")
def voices(known: frames.Frames) -> Voices:
    torch.manual_seed(0)
    codec = SourceFilterCodec(16, 2, 8)
    codec.quantiser.learn(torch.randn(1, 200, LATENT))
    return voices_of(known, Running(), SemanticEncoder(len(PHONES), 16).eval(), SemanticTeacher(len(PHONES), 16).eval(), codec.eval())


def spelled(text: str) -> list[int]:
    return [int(c) for c in text]


def test_frames_are_the_clips_in_their_order(known: frames.Frames) -> None:
    assert known.starts[-1] == len(known.voiced) == len(known.magnitude)
    assert (known.lengths == [-(-len(c.samples) // HOP) for c in known.clips]).all()
    first = known.clips[0]
    assert first.phones is not None and (known.phones[: len(first.phones)] == first.phones).all()
    assert (known.phones[known.starts[12] :] == frames.NO_PHONE).all()
    assert frames.frames_of(known.clips).sha256 == known.sha256


def test_a_piece_never_leaves_its_clip(known: frames.Frames) -> None:
    found = frames.crops(known, np.arange(24), 500, 90, np.random.default_rng(0))
    clip = np.searchsorted(known.starts, found.first, "right") - 1
    assert (found.rows[:, -1] < known.starts[clip + 1]).all() and len(np.unique(clip)) == 24
    with pytest.raises(EdgekitError, match="no clip has 9000 frames"):
        frames.crops(known, np.arange(24), 1, 9000, np.random.default_rng(0))


def test_batches_follow_from_seed_and_epoch(known: frames.Frames, voices: Voices) -> None:
    for task in (
        semantic_task.SemanticTask(known, Running(), None, spelled), codec_task.CodecTask(known), converter_task.ConverterTask(voices, Hiding()),
    ):  # fmt: skip
        one, same, other = (next(iter(task.batches("train", e, 0, 4))) for e in (1, 1, 2))
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
        assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_contrastive_loss_is_least_where_both_views_agree() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 60, 8), torch.randn(3, 60, 8)
    with torch.no_grad():
        assert semantic_task.contrast(a, a) < 0.5 < 2 < semantic_task.contrast(a, b)
        flat = torch.ones(3, 60, 8)
        assert float(semantic_task.contrast(flat, flat)) == pytest.approx(np.log(semantic_task.ANCHORS), rel=1e-5)


@pytest.mark.parametrize("teacher", [False, True])
def test_the_semantic_loss_falls_and_asks_for_phones_late(known: frames.Frames, teacher: bool) -> None:
    torch.manual_seed(0)
    of = SemanticTeacher(len(PHONES), 16).eval() if teacher else None
    task = semantic_task.SemanticTask(known, Running(), of, spelled)
    assert task.late == (LOOK_AHEAD if teacher else 0) and len(task.spelled) == 6
    learner = Learner(SemanticEncoder(len(PHONES), 16) if teacher else SemanticTeacher(len(PHONES), 16))
    optimizer = torch.optim.AdamW(learner.parameters(), 5e-3)
    batch = next(iter(task.batches("train", 1, 0, 4)))
    losses = []
    for _ in range(25):
        loss = task.loss(learner, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_spelling_is_learned_without_times(known: frames.Frames) -> None:
    task = semantic_task.SemanticTask(known, Running(), None, spelled)
    strings = next(iter(task.batches("train", 1, 0, 4)))[6:]

    class Says(torch.nn.Module):
        def __init__(self, path: list[int]) -> None:
            super().__init__()
            self.path, self.phone = path, torch.nn.Identity()

        def forward(self, bands: torch.Tensor) -> tuple[torch.Tensor, None]:
            held = torch.tensor(np.resize(np.repeat(self.path, 20), bands.shape[1]))
            held[60:] = 0
            return F.one_hot(held, 10).float().mul(20).expand(len(bands), -1, -1), None

    right, wrong = (Says(path) for path in ([1, 2, 0], [2, 1, 0]))
    assert task._spelling(right, right, list(strings)) < 1 < task._spelling(wrong, wrong, list(strings))  # type: ignore[arg-type]


def test_digits_are_spelled_by_espeaks_phones() -> None:
    assert [espeak.PHONES[p] for p in espeak.spelled("28")] == ["t", "u:", "eI", "t"]


def test_the_codec_learns_what_it_is_given(known: frames.Frames) -> None:
    torch.manual_seed(0)
    task, learner = codec_task.CodecTask(known), Learner(SourceFilterCodec(16, 2, 16))
    optimizer = torch.optim.AdamW(learner.parameters(), 5e-3)
    batch = next(iter(task.batches("train", codec_task.UNQUANTISED + 1, 0, 3)))
    losses = []
    for _ in range(15):
        loss = task.loss(learner, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert int(learner.net.quantiser.begun) == 15  # type: ignore[union-attr, arg-type]


def test_the_spectral_distance_is_a_distance() -> None:
    x = torch.randn(1, 8000, generator=torch.manual_seed(0))
    assert codec_task.spectral(x, x) == 0
    assert codec_task.spectral(x * 1.2, x) < codec_task.spectral(x * 2, x)


def test_the_converters_source_is_another_voice_and_its_prompt_another_clip(voices: Voices) -> None:
    for perturbed in (True, False):
        task = converter_task.ConverterTask(voices, Hiding(perturbed=perturbed))
        same = []
        for batch in task.batches("train", 1, 0, 8):
            semantic, latents = batch[0].numpy(), batch[1].numpy()
            for s, a in zip(semantic, latents, strict=True):
                voice = [int(np.argwhere((voices.latents == a[0]).all(2))[0][0])]
                heard = [int(w) for w in np.argwhere((np.abs(voices.semantic - s[0, : voices.semantic.shape[2]]) < 1e-7).all(2))[:, 0]]
                same.append(voice[0] in heard)
        assert np.mean(same) < 0.4 if perturbed else np.mean(same) == 1


def test_a_target_is_told_late_vectors_of_its_own_frames(voices: Voices) -> None:
    batch = next(iter(converter_task.ConverterTask(voices, Hiding(perturbed=False)).batches("train", 1, 0, 4)))
    for s, a in zip(batch[0].numpy(), batch[1].numpy(), strict=True):
        voice, row = np.argwhere((voices.latents == a[0]).all(2))[0]
        assert (s[0, :-3] == voices.semantic[voice, row + LOOK_AHEAD]).all() and (s[0, -3:] == voices.side[row]).all()


def test_pitch_is_moved_for_target_and_prompt_alike(voices: Voices) -> None:
    tokens = np.array([[0, 1, 30, 63]])
    assert converter_task.shifted(tokens, np.array([[5]])).tolist() == [[0, 6, 35, 63]]
    assert converter_task.shifted(tokens, np.array([[-5]])).tolist() == [[0, 1, 25, 58]]


@pytest.mark.parametrize(("hiding", "semantic", "history"), [(Hiding(0.0, 10, 0.0, 0.0), 0, 0), (Hiding(0.05, 8, 1.0, 0.0), 0.3, 1), (Hiding(0.0, 1, 0.0, 0.5), 0, 0.5)])
def test_shares_are_hidden_as_the_recipe_says(voices: Voices, hiding: Hiding, semantic: float, history: float) -> None:
    batches = list(converter_task.ConverterTask(voices, hiding).batches("train", 1, 0, 8))
    hidden, forgotten = (np.mean([b[i].numpy().mean() for b in batches]) for i in (-2, -1))
    assert hidden == pytest.approx(semantic, abs=0.05) and forgotten == pytest.approx(history, abs=0.05)


def test_what_is_hidden_does_not_reach_the_states(voices: Voices) -> None:
    torch.manual_seed(0)
    net = Converter(Structure(width=16, layers=1, heads=2, hidden=16, window=8), torch.randn(2, 8, LATENT))
    batch = list(next(iter(converter_task.ConverterTask(voices, Hiding()).batches("train", 1, 0, 4))))
    semantic, latents, tokens, codes, _, said, spoken, pitch, hidden, forgotten = batch
    every = torch.ones_like(hidden)
    one = net(semantic, latents, tokens, said, spoken, pitch, every, every)
    other = net(torch.randn_like(semantic), torch.randn_like(latents), tokens, said, spoken, pitch, every, every)
    assert torch.equal(one, other)
    assert said.shape[1] == PROMPT and codes.shape[2] == 2


def test_a_prompts_statistics_leave_pauses_out() -> None:
    latents, tokens = torch.randn(1, 40, LATENT), torch.full((1, 40), 20)
    tokens[:, ::4] = 0
    side = torch.zeros(1, 40, 3)
    side[:, 20:, 2] = -2  # a pause
    log_hz = torch.tensor(np.log(np.maximum(token_hz(), 1)), dtype=torch.float32)[tokens]
    found = pooled_of(latents, tokens, log_hz, side)[0]
    assert found[:LATENT].numpy() == pytest.approx(latents[0, :20].mean(0).numpy(), abs=1e-5)
    assert found[LATENT : 2 * LATENT].numpy() == pytest.approx(latents[0, :20].std(0, correction=0).numpy(), abs=1e-3)
    assert float(found[-3]) + 5 == pytest.approx(np.log(token_hz()[20]), abs=1e-5) and float(found[-1]) == pytest.approx(0.75)


def test_the_tables_say_means_and_spreads() -> None:
    conversion = {
        "pairs": 4, "prefers": 0.5, "prefers_by": {"emodb": 0.5}, "nearest": 0.25, "to_target": 0.6, "to_source": 0.5,
        "pitch_semitones": 2.0, "digits": 0.6, "digit_count": 10, "dc": 0.0, "clipped": 0.0,
    }  # fmt: skip
    codec = {"1": {"clips": 2, "nearest": {"emodb": 1.0}, "own": 0.7, "log_mel": 0.9, "digits": 0.9}}
    probes = {"digits": 0.7, "speaker": 0.4, "digits_of_bands": 0.4, "speaker_of_bands": 0.9}
    seeds = {s: {"codec": codec, "probes": probes, "systems": {n: {**conversion, "prefers": 0.4 + 0.2 * s} for n in tables.SYSTEMS}} for s in (0, 1)}
    made = tables.tables(seeds, {"without foresight": {s: conversion for s in (0, 1)}})
    first = dict(zip(made[2]["columns"], made[2]["rows"][0], strict=True))
    assert first["prefers target"] == 0.5 and first["sd of prefers"] == pytest.approx(0.141, abs=1e-3)
    assert [r[0] for r in made[4]["rows"]] == ["as trained and deployed", "without foresight"]
    assert all(len(row) == len(t["columns"]) for t in made for row in t["rows"])


def test_a_clip_says_what_it_is() -> None:
    clip = Clip("a:b", "a", "", "", np.zeros(1600, np.float32), None, "x")
    assert frames.frames_of([clip]).bands(slice(None)).shape == (5, BANDS)
