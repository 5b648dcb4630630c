"""The parts of the voice converter against closed forms, scipy and numpy: spectra, pitch, synthesis, quantiser, language model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal

from edgekit.models._voice import quantiser, spectra, synthesis
from edgekit.models._voice.codec import LATENT, TOKENS, codec_of, pitch_token, token_hz
from edgekit.models._voice.conv import ConvStack
from edgekit.models._voice.converter import LOG_HZ, MIDDLE, POOLED, Converter, absolute, middle_of, relative
from edgekit.models._voice.features import BEGUN, MOST, Running
from edgekit.models._voice.language import PERIOD, Trunk
from edgekit.models._voice.source_filter import SourceFilterCodec
from edgekit.models._voice.structure import Structure

RATE, HOP = spectra.RATE_HZ, spectra.HOP


def pulses(hz: float, seconds: float = 1.0) -> torch.Tensor:
    """A sawtooth: all harmonics."""
    t = np.arange(int(RATE * seconds)) / RATE
    return torch.tensor(0.3 * signal.sawtooth(2 * np.pi * hz * t), dtype=torch.float32)[None]


def test_the_folded_transform_is_the_fourier_transform() -> None:
    x = torch.randn(3, spectra.WINDOW, generator=torch.manual_seed(0))
    hann = signal.get_window("hann", spectra.SPECTRUM)
    expected = np.abs(np.fft.rfft(x.numpy()[:, -spectra.SPECTRUM :] * hann, spectra.SIZE)) ** 2 / (hann**2).sum()
    assert spectra.Spectrum().power(x).numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_bands_are_of_unit_sum_and_a_warp_moves_them() -> None:
    for warp in (0.8, 1.0, 1.25):
        assert spectra.mel_matrix(warp).sum(0) == pytest.approx(1)
    bins = np.arange(spectra.SIZE // 2 + 1) * RATE / spectra.SIZE
    middle = [(spectra.mel_matrix(w)[:, 30] * bins).sum() for w in (1.0, 1.25)]
    assert middle[0] / middle[1] == pytest.approx(1.25, rel=0.02)  # a voice with higher formants is heard lower down


@pytest.mark.parametrize("hz", [70.0, 110.0, 150.0, 233.0, 330.0, 410.0])
def test_pitch_is_found_within_a_few_cents(hz: float) -> None:
    voiced, log_hz = spectra.Pitch()(spectra.windows(pulses(hz)))
    assert voiced[0, 5:].all()
    assert 1200 * np.abs(np.log2(log_hz[0, 5:].exp().numpy() / hz)).max() < 20


def test_noise_and_silence_have_no_pitch() -> None:
    noise = torch.randn(1, RATE, generator=torch.manual_seed(1)) * 0.1
    assert spectra.Pitch()(spectra.windows(noise))[0].mean() < 0.05
    assert spectra.Pitch()(spectra.windows(torch.zeros(1, RATE)))[0].sum() == 0


def test_windows_are_those_of_a_feed() -> None:
    samples = torch.arange(4 * HOP, dtype=torch.float32)[None]
    found = spectra.windows(samples)
    padded = np.concatenate([np.zeros(spectra.WINDOW - HOP), samples[0].numpy()])
    for k in range(4):
        assert (found[0, k].numpy() == padded[k * HOP : k * HOP + spectra.WINDOW]).all()


@pytest.mark.parametrize("token", [1, 20, 45, TOKENS - 1])
def test_pulses_come_at_the_tokens_pitch(token: int) -> None:
    excitation = SourceFilterCodec(16, 1, 4).excitation(torch.full((1, 50), token))[0].numpy()
    spectrum = np.abs(np.fft.rfft(excitation))
    hz = np.fft.rfftfreq(len(excitation), 1 / RATE)
    low = (hz > 40) & (hz < 1.5 * token_hz()[token])
    assert hz[low][spectrum[low].argmax()] == pytest.approx(token_hz()[token], rel=0.01)
    assert np.square(excitation).mean() == pytest.approx(2 / 3, rel=0.05)  # of triangles between two samples, whatever the pitch


def test_pitch_tokens_are_the_nearest() -> None:
    hz = torch.tensor(token_hz()[1:])
    off = torch.exp2(torch.tensor([-0.4, 0.0, 0.4])[:, None] * np.log2(420 / 62) / (TOKENS - 2))
    assert (pitch_token(torch.ones(3, TOKENS - 1), (hz * off).log()) == torch.arange(1, TOKENS)).all()
    assert (pitch_token(torch.zeros(4), torch.full((4,), 5.0)) == 0).all()


def test_the_filter_is_the_minimum_phase_one_of_its_gains() -> None:
    smooth = torch.tensor(np.cos(np.linspace(0, 3 * np.pi, spectra.BANDS)), dtype=torch.float32)
    gain, phase = synthesis.Filters()(smooth)
    impulse = np.fft.irfft((gain * torch.exp(1j * phase)).numpy(), synthesis.SIZE)
    magnitude = np.abs(np.fft.rfft(impulse))
    assert magnitude == pytest.approx(gain.numpy(), rel=1e-3)
    # Of all impulses of that magnitude the one of minimum phase has its energy earliest; scipy finds it by its own way.
    other = signal.minimum_phase(np.fft.fftshift(np.fft.irfft(gain.numpy() ** 2, synthesis.SIZE)), method="homomorphic")
    assert np.cumsum(impulse**2)[:64] == pytest.approx(np.cumsum(other**2)[:64], rel=0.02)
    assert (impulse[:40] ** 2).sum() > 0.99 * (impulse**2).sum()


def test_sound_frame_by_frame_is_sound_at_once() -> None:
    codec = SourceFilterCodec(16, 1, 4)
    torch.manual_seed(0)
    tokens, latents, noise = torch.randint(0, TOKENS, (2, 30)), torch.randn(2, 30, 24), torch.randn(2, 30 * HOP)
    tokens[:, 8:13] = 0
    whole = codec.voice(latents, tokens, noise)
    tails, phase, before = None, torch.zeros(2, 1, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int64)
    sources, tail, parts = torch.zeros(2, 2, synthesis.HALF), torch.zeros(2, synthesis.TAIL), []
    for t in range(30):
        gains, tails = codec.gains(latents[:, t : t + 1], tokens[:, t : t + 1], tails)
        train, phase = codec.pulses(tokens[:, t : t + 1], before, phase)
        before = tokens[:, t : t + 1]
        out, sources, tail = codec.synthesis(train, noise[:, t * HOP : (t + 1) * HOP], gains[:, 0], sources, tail)
        parts.append(out)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("kind", ["source-filter", "waveform"])
def test_a_codec_frame_by_frame_is_the_codec_at_once(kind: str) -> None:
    torch.manual_seed(0)
    codec = codec_of(kind, 8, 2, 8)  # type: ignore[arg-type]
    samples, tokens, hiss = torch.randn(1, 12 * HOP) * 0.1, torch.randint(0, TOKENS, (1, 12)), torch.randn(1, 12 * HOP)
    bands = spectra.Spectrum()(spectra.windows(samples))
    latents, _ = codec.encode(samples, bands)
    whole = codec.voice(latents, tokens, hiss).detach()
    tails = [torch.zeros(1, c, t) for c, t in codec.heard_states]
    states = [torch.zeros(d, dtype=getattr(torch, t)) for t, d in codec.spoken_states.values()]
    before, found, parts = torch.zeros(1, 1, dtype=torch.int64), [], []
    for t in range(12):
        part = slice(t * HOP, (t + 1) * HOP)
        latent, tails = codec.encode(samples[:, part], bands[:, t : t + 1], tails)
        out, *states = codec.spoken(latent[:, 0], tokens[:, t], before, hiss[:, part], states)
        before = tokens[:, t : t + 1]
        found.append(latent)
        parts.append(out)
    assert (torch.cat(found, 1) - latents).abs().max() < 1e-5
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5 * max(1, float(whole.abs().max()))


def test_what_a_frame_sounds_like_begins_no_earlier_than_the_delay_allows() -> None:
    codec = SourceFilterCodec(16, 1, 4)
    tokens, noise, latents = torch.full((1, 20), 30), torch.randn(1, 20 * HOP), torch.randn(1, 20, 24)
    changed = latents.clone()
    changed[:, 10] += 1
    a, b = (codec.voice(x, tokens, noise) for x in (latents, changed))
    first = int((a != b)[0].to(torch.int64).argmax())
    assert 10 * HOP <= first < 10 * HOP + synthesis.HALF


def test_the_quantiser_finds_the_nearest_entries_and_levels_help() -> None:
    torch.manual_seed(0)
    found = quantiser.Quantiser(6, 3, 16)
    data = torch.randn(4, 200, 6)
    for _ in range(30):
        found.learn(data)
    codes = found.codes(data)
    rest = data.reshape(-1, 6)
    for level in range(3):
        distance = torch.cdist(rest, found.books[level])
        assert (distance.argmin(1) == codes[..., level].reshape(-1)).all()
        rest = rest - found.books[level][codes[..., level].reshape(-1)]
    errors = [float((data - found.latents(codes[..., :n])).square().mean()) for n in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert (data - found.latents(codes)).reshape(-1, 6).numpy() == pytest.approx(rest.numpy(), abs=1e-5)
    assert len(codes[..., 0].unique()) == 16  # dead entries were moved to where data are


def test_dead_entries_are_revived() -> None:
    torch.manual_seed(0)
    found = quantiser.Quantiser(2, 1, 8)
    found.learn(torch.randn(1, 100, 2))
    found.books[0, 3] = 1e3  # nothing is near
    found.sums[0, 3] = 1e3
    for _ in range(400):
        found.learn(torch.randn(1, 100, 2))
    assert found.books.abs().max() < 10


def test_convolutions_carry_their_past() -> None:
    torch.manual_seed(0)
    stack, x = ConvStack(5, 8, 3, 3, (1, 2, 4)), torch.randn(2, 40, 5)
    whole, _ = stack(x)
    tails, parts = None, []
    for size in (1, 7, 2, 30):
        at = sum(p.shape[1] for p in parts)
        y, tails = stack(x[:, at : at + size], tails)
        parts.append(y)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5


def test_running_means_forget_and_pauses_do_not_count() -> None:
    running = Running()
    loud, quiet = torch.full((1, 200, spectra.BANDS), -3.0), torch.full((1, 50, spectra.BANDS), -14.0)
    none = torch.zeros(1, 250, 1)
    shown, side, states = running(torch.cat([loud, quiet], 1), none, none)
    mean = -7.0 + 4.0 * 200 / (200 + BEGUN)
    assert states[0] == pytest.approx(np.full((1, spectra.BANDS), mean), abs=1e-3)
    assert float(shown[0, 0, 0]) == pytest.approx(-3 - (-7 + 4 / (BEGUN + 1)), abs=1e-4)
    assert float(side[0, -1, 2]) == -2 and float(side[0, 100, 2]) == 0
    many, _, states = running(loud.repeat(1, 8, 1), torch.zeros(1, 1600, 1), torch.zeros(1, 1600, 1))
    assert float(states[1]) == MOST


def test_the_noise_of_a_room_is_no_part_of_a_voice_s_pitch() -> None:
    """A tracker that finds 300 Hz in soft noise, then a voice of 110 Hz: as if the noise had not been, whether it counted for a while or not."""
    for room, far in ((-9.5, 0.5), (-6.0, 2.0)):  # a pause from the beginning on, and one that only shows when a voice comes
        levels = torch.cat([torch.full((1, 60, 1), room), torch.full((1, 60, 1), -2.0)], 1)
        hz = torch.cat([torch.full((1, 60, 1), 300.0), torch.full((1, 60, 1), 110.0)], 1)
        _, side, states = Running()(levels.expand(-1, -1, spectra.BANDS), torch.ones(1, 120, 1), hz.log())
        assert 12 * abs(math.log2(math.exp(float(states[2])) / 110)) < far
        assert (12 * side[0, -20:, 1]).abs().max() < 1.5 * far


@pytest.mark.parametrize("heads", [1, 2])
def test_the_trunk_goes_on_where_it_was(heads: int) -> None:
    torch.manual_seed(0)
    trunk = Trunk(16, 2, heads, 32, 24)
    x, prompt = torch.randn(1, PERIOD + 70, 16), trunk.prefix(torch.randn(1, 9, 16))
    whole = trunk(x, prompt)
    cache = torch.zeros(2, 1, heads, 24, 16 // heads)
    keys, values, position, filled, parts = cache, cache, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), []
    at = 0
    while at < x.shape[1]:
        count = min(1 + at % 3, x.shape[1] - at)
        y, keys, values = trunk.step(x[:, at : at + count], prompt, keys, values, position, filled)
        parts.append(y)
        at += count
        position, filled = (position + count) % PERIOD, (filled + count).clamp(max=24)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5


def test_the_trunk_sees_its_window_and_no_more() -> None:
    torch.manual_seed(0)
    trunk = Trunk(16, 1, 2, 32, 24)
    x, prompt = torch.randn(1, 80, 16), trunk.prefix(torch.randn(1, 9, 16))
    changed = x.clone()
    changed[:, 30] += 1
    differs = (trunk(x, prompt) - trunk(changed, prompt)).abs().amax(2)[0] > 0
    assert differs.nonzero().reshape(-1).tolist() == list(range(30, 30 + 24 + 1))


@pytest.mark.parametrize(("order", "predictor"), [("paired", "discrete"), ("interleaved", "discrete"), ("paired", "continuous"), ("interleaved", "continuous")])
def test_a_frame_is_told_those_before_it_and_not_itself(order: str, predictor: str) -> None:
    torch.manual_seed(0)
    books = torch.randn(2, 8, 24)
    net = Converter(Structure(width=16, layers=1, heads=2, hidden=16, window=8, order=order, predictor=predictor, history=True), books)  # type: ignore[arg-type]
    said, latents, tokens = torch.randn(1, 20, 35), torch.randn(1, 20, 24), torch.randint(0, TOKENS, (1, 20))
    prompt = (torch.randn(1, 12, 35), torch.randn(1, 12, 24), torch.randint(0, TOKENS, (1, 12)))
    none = torch.zeros(1, 20, dtype=torch.bool)

    def states(latents: torch.Tensor, forgotten: torch.Tensor) -> torch.Tensor:
        return net(said, latents, tokens, *prompt, none, forgotten)

    changed = latents.clone()
    changed[:, 10] += 1
    differs = (states(latents, none) - states(changed, none)).abs().amax(2)[0] > 0
    assert not differs[:11].any() and differs[11]
    every = torch.ones_like(none)
    assert (states(latents, every) == states(changed, every)).all()
    codes, losses, pooled = torch.randint(0, 8, (1, 20, 2)), net.predictor.losses, net.pooled_of(prompt[1], prompt[2], prompt[0])
    assert losses(states(latents, none), pooled, said, tokens, codes, latents).shape[1:] == (1, 20)
    token, found, made = net.predictor(states(latents, none)[0], pooled, said[0], torch.zeros(20, TOKENS + 16), 0.0)
    assert (made - sum(books[level][found[:, level]] for level in range(2))).abs().max() < 1e-5
    assert token.shape == (20,)


def test_pitch_against_a_voice_s_mean_goes_with_the_voice() -> None:
    """The same melody of a low and of a high voice has the same relative tokens, and comes back as what it was."""
    low = torch.tensor([[0, 18, 20, 16, 0, 22]])
    high = torch.where(low > 0, low + 24, low)
    found, middles = [], []
    for tokens in (low, high):
        pooled = torch.zeros(1, POOLED)
        pooled[0, 2 * LATENT] = math.log(np.exp(np.log(token_hz()[tokens[tokens > 0].numpy()]).mean())) - LOG_HZ
        middles.append(middle_of(pooled))
        found.append(relative(tokens, middles[-1]))
        assert (absolute(found[-1], middles[-1]) == tokens).all()
    assert (found[0] == found[1]).all() and int(middles[1] - middles[0]) == 24 and int(middles[0]) == 19


def test_drawn_codes_follow_their_probabilities() -> None:
    torch.manual_seed(0)
    net = Converter(Structure(width=16, layers=1, heads=2, hidden=16, predictor="discrete", pitch="predicted"), torch.randn(1, 4, 24)).predictor
    state = torch.randn(1, 16).expand(20_000, -1)
    noise = -(-torch.rand(20_000, TOKENS + 4).clamp(1e-7, 1 - 1e-7).log()).log()
    pooled = torch.zeros(1, POOLED)
    pooled[0, 2 * LATENT] = math.log(token_hz()[MIDDLE]) - LOG_HZ  # a prompt as high as the middle: relative tokens are absolute ones
    token, _, _ = net(state, pooled, None, noise, 1.0)
    expected = net.pitch(state[:1])[0].softmax(0).detach().numpy()
    assert np.bincount(token.numpy(), minlength=TOKENS) / 20_000 == pytest.approx(expected, abs=0.012)
