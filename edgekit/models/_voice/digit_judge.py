"""A judge of spoken digits: a small network that has heard only real recordings, of all six voices of fsdd, takes 5 to 19."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import Broken, EdgekitError
from edgekit.models._voice.corpora import RATE_HZ, Clip, clips
from edgekit.models._voice.mel import htk_edges_hz, power_frames, triangles

BANDS, LOW_HZ, HIGH_HZ = 40, 60.0, 3800.0  # fsdd was recorded at 8 kHz: what lies above must not decide
WINDOW, HOP, SIZE = 400, 160, 1024  # samples: 25 ms, 10 ms apart
FRAMES = 112  # a digit is heard in 1.1 s; what is longer is cut
LATE = 10  # frames by which a digit strays from the middle while the network learns
DEPTH = 8.0  # nats below a clip's loudest band that are heard
WARPS = (0.8, 0.86, 0.93, 1.0, 1.07, 1.15, 1.25)  # factors on all frequencies: other throats
COLOUR = 0.4  # nats, of each of three waves over the bands
NOISE = (5.0, 10.0)  # nats from the loudest band down to a floor of noise
CHANNELS = 64
STEPS, BATCH, RATE, SEED = 700, 64, 2e-3, 0
TEST_TAKES = 5  # takes 0 to 4 are never trained on
MARGIN_S = 0.04  # heard before and after each digit of a string
VERSION = 1  # of what the cache holds; raised when the same recordings give another network


class DigitJudge:
    """Says which digit is spoken. Its recordings are real: it has never heard what a codec or a converter makes of them."""

    def __init__(self) -> None:
        """From the cache folder, or trained in seconds on fsdd; raises what `clips("fsdd")` raises."""
        learned = [c for c in clips("fsdd") if _take(c) >= TEST_TAKES]
        deciding = [repr(v).encode() for v in (BANDS, LOW_HZ, HIGH_HZ, WINDOW, HOP, SIZE, FRAMES, DEPTH, WARPS, CHANNELS)]
        deciding += [repr((STEPS, BATCH, RATE, SEED, VERSION)).encode(), *(c.samples.tobytes() for c in learned)]
        path = cache_folder() / "voice" / f"digits-{hashlib.sha256(b''.join(deciding)).hexdigest()[:16]}.safetensors"
        with torch.random.fork_rng(devices=[]):  # the first weights come from torch's own state, which is put back
            torch.manual_seed(SEED)
            self.net = _network()
        try:
            self.net.load_state_dict({k: torch.tensor(v) for k, v in files.load_tensors(path).items()})
        except (Broken, RuntimeError):
            _train(self.net, learned)
            files.write_tensors(path, {k: v.numpy() for k, v in self.net.state_dict().items()})
        self.net.eval().requires_grad_(False)

    def digits(self, samples: np.ndarray | Sequence[np.ndarray], spans: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """int64 (digits,): what is said in one clip, in each of several, or in each (start, length) of one, at 16 kHz.

        A span is heard with 40 ms before and after it. Raises EdgekitError for a span that does not lie in the clip.
        """
        if isinstance(samples, np.ndarray):
            pieces = _cut(samples, spans) if len(spans) else [samples]
        elif len(spans):
            raise EdgekitError("spans cut one clip into digits; give one clip with them, or several without")
        else:
            pieces = list(samples)
        if not pieces:
            return np.zeros(0, np.int64)
        heard = np.stack([_canvas(_bands(p)[0]) for p in pieces])
        with torch.no_grad():
            found: np.ndarray = self.net(torch.from_numpy(heard)).argmax(1).numpy()
        return found


def recognised(
    judge: DigitJudge, clips_out: Sequence[np.ndarray], spans: Sequence[Sequence[tuple[int, int]]], texts: Sequence[str]
) -> float:
    """The share of all digits of strings that are understood: clips float32 (n,), the spans of each one's digits, what was to be said."""
    right = total = 0
    for clip, own, text in zip(clips_out, spans, texts, strict=True):
        if len(own) != len(text):
            raise EdgekitError(f"'{text}' has {len(text)} digits, but {len(own)} spans are given")
        right += int((judge.digits(clip, own) == [int(d) for d in text]).sum())
        total += len(text)
    if not total:
        raise EdgekitError("no digits are given to be recognised")
    return right / total


def _take(clip: Clip) -> int:
    return int(clip.name.rpartition("_")[2])


def _cut(samples: np.ndarray, spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    margin = round(MARGIN_S * RATE_HZ)
    found = []
    for start, length in spans:
        if start < 0 or length < 1 or start >= len(samples):
            raise EdgekitError(f"a digit at {start} of {length} samples does not lie in a clip of {len(samples)}")
        found.append(samples[max(0, start - margin) : start + length + margin])
    return found


def _bands(samples: np.ndarray, warps: Sequence[float] = (1.0,)) -> list[np.ndarray]:
    """float32 (frames, BANDS) for each warp: ln of the mean power of each band; 1.1 is a voice with all formants a tenth higher."""
    power = power_frames(samples, WINDOW, HOP, SIZE)
    return [np.log(power @ _matrix(warp) + 1e-10).astype(np.float32) for warp in warps]


@lru_cache(maxsize=len(WARPS))
def _matrix(warp: float) -> np.ndarray:
    """float64 (bins, BANDS), each of unit sum."""
    bands = triangles(htk_edges_hz(BANDS, LOW_HZ / warp, HIGH_HZ / warp), SIZE)
    found: np.ndarray = bands / bands.sum(0)
    return found


def _canvas(bands: np.ndarray, depth: float = DEPTH, late: int = 0) -> np.ndarray:
    """float32 (BANDS, FRAMES), -1 to 1: a digit in the middle of silence, or `late` frames after it as far as there is room."""
    kept = np.maximum(bands - bands.max(), -depth)[:FRAMES]
    made = np.full((FRAMES, BANDS), -depth, np.float32)
    room = FRAMES - len(kept)
    first = min(max(room // 2 + late, 0), room)
    made[first : first + len(kept)] = kept
    found: np.ndarray = (made.T / (depth / 2) + 1).astype(np.float32)
    return found


def _network() -> nn.Sequential:
    """(N, BANDS, FRAMES) -> (N, 10)."""
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [nn.Conv1d(CHANNELS if i else BANDS, CHANNELS, 5, padding=2), nn.BatchNorm1d(CHANNELS), nn.ReLU()]
        layers += [nn.MaxPool1d(2)] if i < 2 else []
    return nn.Sequential(*layers, nn.AdaptiveMaxPool1d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * CHANNELS, 10))


def _train(net: nn.Sequential, learned: Sequence[Clip]) -> None:
    rng = np.random.default_rng(SEED)
    bands = [_bands(c.samples, WARPS) for c in learned]
    labels = np.array([int(c.text) for c in learned])
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's own state, which is put back
        torch.manual_seed(SEED)
        net.train()
        for _ in range(STEPS):
            chosen = rng.integers(len(learned), size=BATCH)
            heard = np.stack([_disturbed(bands[i][rng.integers(len(WARPS))], rng) for i in chosen])
            told: Tensor = net(torch.from_numpy(heard))
            loss = nn.functional.cross_entropy(told, torch.from_numpy(labels[chosen]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _disturbed(bands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit as another microphone, room and tempo would have it: a smooth colouring, a floor of noise, longer or shorter."""
    rows = np.linspace(0, len(bands) - 1, max(8, round(len(bands) * rng.uniform(0.8, 1.25)))).round().astype(int)
    waves = np.cos(np.pi * np.arange(1, 4)[:, None] * (np.arange(BANDS) + 0.5) / BANDS)
    coloured = bands[rows] + (rng.normal(0, COLOUR, 3) @ waves).astype(np.float32)
    floor = np.float32(coloured.max() - rng.uniform(*NOISE))
    return _canvas(np.logaddexp(coloured, floor), DEPTH, int(rng.integers(-LATE, LATE, endpoint=True)))
