"""The judges of voice conversion: what they say of recordings whose answer is known, and that they compute what their makers wrote."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

from edgekit import data
from edgekit.errors import Broken, EdgekitError
from edgekit.models._voice import digit_judge, mel
from edgekit.models._voice.corpora import HOP, RATE_HZ, Clip, clips
from edgekit.models._voice.digit_judge import DigitJudge, recognised
from edgekit.models._voice.judges import (
    PitchJudge,
    SpeakerJudge,
    median_pitch_error_semitones,
    nearest_speaker,
    prefers_target,
)
from edgekit.models._voice.pairing import digit_strings
from edgekit.models._voice.quality import border_click, clipped_share, dc_offset, log_mel_distance


def need(*names: str) -> None:
    for name in names:
        if data.folder(name) is None:
            pytest.skip(f"no data: {name} is not on this machine")


@pytest.fixture(scope="module")
def voices() -> SpeakerJudge:
    need("models")
    return SpeakerJudge()


@pytest.fixture(scope="module")
def pitches() -> PitchJudge:
    need("models")
    return PitchJudge()


@pytest.fixture(scope="module")
def listener() -> DigitJudge:
    need("fsdd")
    return DigitJudge()


def sound(hz: float | np.ndarray, seconds: float = 1.0, harmonics: int = 1) -> np.ndarray:
    """A tone, or a hum of several harmonics, of one pitch or of a pitch at each sample."""
    turns = np.cumsum(np.broadcast_to(hz, round(seconds * RATE_HZ))) / RATE_HZ
    return sum(0.3 * np.sin(2 * np.pi * k * turns) / k for k in range(1, harmonics + 1)).astype(np.float32)


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


# Bands


def test_slaneys_scale_is_that_of_librosa():
    # From the documentation of librosa.mel_frequencies(n_mels=40), 0 to 11025 Hz
    head = [0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855, 853.173, 938.49, 1024.856, 1119.114, 1222.042]
    found = mel.slaney_edges_hz(38, 0, 11025)
    assert np.allclose(found[:15], head, atol=2e-3) and found[-1] == pytest.approx(11025)
    assert len(found) == 40


def test_triangles_peak_in_their_middle_and_add_up_to_one():
    edges = mel.htk_edges_hz(20, 100, 7000)
    found = mel.triangles(edges, 4096)
    bins = np.arange(2049) * RATE_HZ / 4096
    assert np.allclose(2595 * np.log10(1 + edges / 700), np.linspace(*(2595 * np.log10(1 + f / 700) for f in (100, 7000)), 22))
    inside = (bins > edges[1]) & (bins < edges[-2])
    assert np.allclose(found[inside].sum(1), 1) and np.all(np.abs(bins[found.argmax(0)] - edges[1:-1]) < 4)
    narrow = mel.triangles(np.array([100.0, 101.0, 102.0]), 256)  # bins are 62.5 Hz apart
    assert narrow.sum() == 1 and narrow[2, 0] == 1


def test_power_is_that_of_scipy():
    samples = noise(0.5).astype(np.float64)
    window = scipy.signal.get_window("hann", 400)
    _, _, found = scipy.signal.stft(samples, RATE_HZ, window, 400, 240, 512, boundary="zeros", padded=False, scaling="spectrum")
    wanted = np.abs(found.T * window.sum()) ** 2
    assert np.allclose(mel.power_frames(samples, 400, 160, 512)[: len(wanted)], wanted)
    ends = mel.power_frames(samples, 640, HOP, 1024, centred=False)
    assert len(ends) == 25 and np.allclose(ends[4], np.abs(np.fft.rfft(samples[4 * HOP - 320 : 5 * HOP] * scipy.signal.get_window("hann", 640), 1024)) ** 2)


# Who speaks


def numpy_lstm(weights: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """The last hidden vector of three LSTM layers over (time, features), as Hochreiter and Schmidhuber have it."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    sequence = inputs.astype(np.float64)
    for layer in range(3):
        ih, hh, b_ih, b_hh = (weights[f"lstm.{n}_l{layer}"].astype(np.float64) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        hidden, cell, out = np.zeros(256), np.zeros(256), []
        for x in sequence:
            i, f, g, o = np.split(ih @ x + b_ih + hh @ hidden + b_hh, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            out.append(hidden)
        sequence = np.array(out)
    return sequence[-1]


def test_a_voice_is_embedded_as_written(voices):
    """2.4 s: parts at 0, 0.8 and (too little of it) 1.6 s, each by a network in numpy."""
    with np.load(data.require("models") / "resemblyzer_ge2e_fp16.npz") as file:
        weights = {k: file[k] for k in file.files}
    samples = (0.02 * noise(2.4, 3) + 0.05 * sound(140, 2.4, 8)).astype(np.float64)
    loud = samples * 10 ** ((-30 - 20 * np.log10(np.sqrt(np.mean(samples**2)))) / 20)
    _, _, spectrum = scipy.signal.stft(loud, RATE_HZ, scipy.signal.get_window("hann", 400), 400, 240, boundary="zeros", padded=False)
    power = np.abs(spectrum.T * 200) ** 2
    edges = mel.slaney_edges_hz(40)
    bands = np.stack([np.interp(np.arange(201) * 40, edges[b : b + 3], [0, 1, 0]) * 2 / (edges[b + 2] - edges[b]) for b in range(40)], 1)
    parts = []
    for start in (0, 80):
        hidden = numpy_lstm(weights, (power @ bands)[start : start + 160])
        found = np.maximum(0, weights["linear.weight"].astype(np.float64) @ hidden + weights["linear.bias"])
        parts.append(found / np.linalg.norm(found))
    wanted = np.mean(parts, 0)
    found = voices.embed(samples.astype(np.float32))
    assert found.dtype == np.float32 and found.shape == (256,) and np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert np.abs(found - wanted / np.linalg.norm(wanted)).max() < 1e-4
    assert found @ voices.embed(noise(2.4)) < 0.9


@pytest.mark.parametrize(("name", "least"), [("librispeech_mini", 0.99), ("emodb", 0.94)])
def test_the_nearest_clip_is_of_the_same_speaker(voices, name, least):
    need(name)
    every = clips(name)
    found = np.stack([voices.embed(c.samples) for c in every])
    cosines = found @ found.T
    same = np.array([[a.speaker == b.speaker for a in every] for b in every])
    np.fill_diagonal(cosines, -1)
    right = same[np.arange(len(every)), cosines.argmax(1)].mean()
    assert right >= least
    np.fill_diagonal(same, False)
    others = ~same & ~np.eye(len(every), dtype=bool)
    assert cosines[same].mean() > cosines[others].mean() + 0.15


def test_quiet_speech_is_raised_and_loud_speech_is_left(voices):
    samples = 0.3 * noise(1.6)  # -30.5 dB
    assert np.abs(voices.embed(samples) - voices.embed(samples / 50)).max() < 1e-4
    assert np.abs(voices.embed(samples) - voices.embed(samples * 8)).max() > 1e-3
    for odd in (np.zeros(0, np.float32), np.zeros(8000, np.float32), noise(0.02)):
        assert np.isfinite(voices.embed(odd)).all()


def by_speaker(name: str) -> dict[str, list[np.ndarray]]:
    return {s: [c.samples for c in own] for s, own in itertools.groupby(clips(name), lambda c: c.speaker)}


def test_the_target_is_preferred_by_its_own_clips(voices):
    need("librispeech_mini")
    found = by_speaker("librispeech_mini")
    one, two = found["libri:367"], found["libri:2609"]
    assert all(prefers_target(voices, c, one[5:], two[5:]) and not prefers_target(voices, c, two[5:], one[5:]) for c in one[:3])
    assert not any(prefers_target(voices, c, one[5:], two[5:]) for c in two[:3])
    assert -1 <= voices.similarity(two[0], one) < voices.similarity(one[0], one[1:]) <= 1
    enrolment = {s: own[3:] for s, own in found.items()}
    assert [nearest_speaker(voices, own[0], enrolment) for own in found.values()] == list(found)
    with pytest.raises(EdgekitError, match="no enrolment clip"):
        nearest_speaker(voices, one[0], {"a": []})


# Pitch


def test_a_sweep_is_followed(pitches):
    wanted = 80 * 5 ** (np.arange(4 * RATE_HZ) / (4 * RATE_HZ))  # 80 to 400 Hz
    for harmonics in (1, 8):
        hz, confidence = pitches.pitch_hz(sound(wanted, 4, harmonics))
        assert hz.dtype == confidence.dtype == np.float32 and hz.shape == confidence.shape == (200,)
        cents = 1200 * np.log2(hz / wanted[HOP // 2 :: HOP])
        assert np.median(np.abs(cents)) < 8 and np.abs(cents[2:-2]).max() < 40
        assert np.percentile(confidence, 5) > 0.6
    assert pitches.pitch_hz(sound(100, 0.1), hop=160)[0].shape == (10,)


def test_frames_are_where_they_are_heard(pitches):
    hz, _ = pitches.pitch_hz(np.concatenate([sound(110, 0.5, 6), sound(220, 0.5, 6)]))
    assert len(hz) == 50 and np.allclose(hz[:23], 110, rtol=0.03) and np.allclose(hz[27:], 220, rtol=0.03)
    low, _ = pitches.pitch_hz(sound(440, 0.5), high_hz=300)
    assert (low <= 315).all()  # the mean of bins up to 80 cents beyond the limit


def test_noise_and_silence_have_no_pitch(pitches):
    for samples in (noise(1), np.zeros(RATE_HZ, np.float32)):
        assert np.median(pitches.pitch_hz(samples)[1]) < 0.5
    assert np.isnan(pitches.median_hz([np.zeros(RATE_HZ, np.float32), np.zeros(0, np.float32)]))


def test_pitch_errors_are_in_semitones(pitches):
    low, high = sound(110, 1, 6), sound(220, 1, 6)
    assert median_pitch_error_semitones(pitches, low, [high]) == pytest.approx(12, abs=0.3)
    assert median_pitch_error_semitones(pitches, high, [low, low, low[:1000]]) == pytest.approx(12, abs=0.3)
    assert median_pitch_error_semitones(pitches, high, [high]) == 0
    assert np.isnan(median_pitch_error_semitones(pitches, np.zeros(8000, np.float32), [high]))


@pytest.mark.parametrize("judge", [SpeakerJudge, PitchJudge])
def test_missing_and_damaged_weights_are_told(judge, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EdgekitError, match="no data set 'models' on this machine"):
        judge()
    (tmp_path / "models").mkdir()
    with pytest.raises(EdgekitError, match=r"has no \w+_fp16.npz; complete the folder"):
        judge()
    for name in ("resemblyzer_ge2e_fp16", "crepe_tiny_fp16"):
        (tmp_path / "models" / f"{name}.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(Broken, match="is not a file of weights"):
        judge()
    for name in ("resemblyzer_ge2e_fp16", "crepe_tiny_fp16"):
        np.savez(tmp_path / "models" / f"{name}.npz", other=np.zeros(1))
    with pytest.raises(Broken, match="do not fit their network"):
        judge()


# Digits


def test_digits_never_heard_in_training_are_understood(listener):
    tests = [c for c in clips("fsdd") if int(c.name.rpartition("_")[2]) < digit_judge.TEST_TAKES]
    assert len(tests) == 300
    found = listener.digits([c.samples for c in tests])
    assert found.dtype == np.int64 and (found == [int(c.text) for c in tests]).mean() >= 0.975
    strings = digit_strings(tests, seed=4)
    sounds, spans, texts = [s.samples for s in strings], [s.spans for s in strings], [s.text for s in strings]
    assert recognised(listener, sounds, spans, texts) >= 0.97
    late = [np.pad(s, (480, 0))[: len(s)] for s in sounds]  # 30 ms: what a stream may take
    assert recognised(listener, late, spans, texts) >= 0.95
    assert recognised(listener, sounds, spans, [t[1:] + t[0] for t in texts]) < 0.25
    assert recognised(listener, [noise(s.seconds) for s in strings], spans, texts) < 0.25


def test_digits_are_asked_for_one_by_one_or_together(listener):
    own = [c for c in clips("fsdd") if c.name.endswith("_jackson_0")]
    together = listener.digits([c.samples for c in own])
    assert np.array_equal(together, np.concatenate([listener.digits(c.samples) for c in own])) and together.shape == (10,)
    assert listener.digits([]).shape == (0,)
    with pytest.raises(EdgekitError, match="a digit at 99999 of 10 samples does not lie in a clip of"):
        listener.digits(own[0].samples, [(99999, 10)])
    with pytest.raises(EdgekitError, match="spans cut one clip"):
        listener.digits([c.samples for c in own], [(0, 10)])
    with pytest.raises(EdgekitError, match="'12' has 2 digits, but 1 spans are given"):
        recognised(listener, [own[0].samples], [[(0, 100)]], ["12"])
    with pytest.raises(EdgekitError, match="no digits are given"):
        recognised(listener, [], [], [])


@pytest.fixture
def quick(tmp_path, monkeypatch) -> Iterator[Path]:
    """A judge trained in no time on made-up clips, with a cache of its own."""
    rng = np.random.default_rng(0)
    made = tuple(
        Clip("fsdd:a", "fsdd", "M", str(d), rng.normal(0, 0.1, 4000).astype(np.float32), None, f"{d}_a_{take}") for d in range(10) for take in (0, 5)
    )
    monkeypatch.setattr(digit_judge, "clips", lambda name: made)
    monkeypatch.setattr(digit_judge, "STEPS", 3)
    monkeypatch.setattr(digit_judge, "BATCH", 4)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    return tmp_path / "voice"


def test_the_digit_judge_is_trained_once(quick, monkeypatch):
    before = torch.random.get_rng_state()
    first = DigitJudge()
    assert torch.equal(before, torch.random.get_rng_state())
    (kept,) = quick.iterdir()
    whole = kept.read_bytes()
    weights = {k: v.clone() for k, v in first.net.state_dict().items()}
    kept.write_bytes(whole[:1000])
    again = DigitJudge()
    assert kept.read_bytes() == whole and all(torch.equal(weights[k], v) for k, v in again.net.state_dict().items())
    train = digit_judge._train
    monkeypatch.setattr(digit_judge, "_train", lambda net, learned: pytest.fail("it was in the cache"))
    assert all(torch.equal(weights[k], v) for k, v in DigitJudge().net.state_dict().items())
    seen: list[Clip] = []
    monkeypatch.setattr(digit_judge, "_train", lambda net, learned: seen.extend(learned) or train(net, learned))
    monkeypatch.setattr(digit_judge, "STEPS", 4)
    DigitJudge()
    assert len(list(quick.iterdir())) == 2 and {c.name.rpartition("_")[2] for c in seen} == {"5"}


# Sound


def test_the_distance_is_in_nats():
    samples = noise(2)
    assert log_mel_distance(samples, samples) == 0
    assert log_mel_distance(samples, samples * np.float32(np.e)) == pytest.approx(2, abs=1e-3)
    assert log_mel_distance(samples, np.concatenate([samples * 2, noise(1, 1)])) == pytest.approx(np.log(4), abs=1e-3)
    assert log_mel_distance(samples, np.zeros_like(samples)) == pytest.approx(np.log(0.01 / 1e-7), abs=0.5)
    # Two independent noises differ by |difference of ln chi^2|, less the more bins a band has
    assert 0.1 < log_mel_distance(samples, noise(2, 1)) < 1.2


def test_clicks_are_heard_at_borders_only():
    smooth = sound(150, 2, 5)
    borders = range(HOP, len(smooth), HOP)
    assert 0.3 < border_click(smooth, borders) <= 1.05
    steps = smooth + 0.05 * (np.arange(len(smooth)) // HOP % 2).astype(np.float32)
    assert border_click(steps, borders) > 3
    elsewhere = smooth + 0.05 * ((np.arange(len(smooth)) + HOP // 2) // HOP % 2).astype(np.float32)
    assert border_click(elsewhere, borders) < 0.5
    assert border_click(noise(1), borders[:49]) == pytest.approx(1, abs=0.35)
    for shift in (-1, 0, 1):  # the click may lie one sample beside the border
        once = smooth.copy()
        once[5 * HOP + shift] += 0.1
        assert border_click(once, borders) > 6
    with pytest.raises(ValueError, match="borders must lie inside"):
        border_click(smooth, [])


def test_offset_and_clipping_are_shares():
    samples = sound(200, 1)
    assert dc_offset(samples) < 1e-3 and dc_offset(samples + 0.1) == pytest.approx(0.1 / np.sqrt(0.01 + 0.045), abs=1e-3)
    assert dc_offset(np.full(100, -0.5, np.float32)) == pytest.approx(1) and dc_offset(np.zeros(10, np.float32)) == 0
    assert clipped_share(samples) == 0
    assert clipped_share(np.clip(samples / 0.15, -1, 1)) == pytest.approx(2 / 3, abs=0.01)  # |sin| >= 1/2
