"""Clips as the converter learns them: for each pseudo-speaker what the encoder and the codec make of every frame, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgekit.models._voice.codec import Codec
from edgekit.models._voice.features import Running
from edgekit.models._voice.frames import Frames
from edgekit.models._voice.semantic import SemanticEncoder, SemanticTeacher
from edgekit.models._voice.spectra import HOP

WARPS = tuple(float(w) for w in np.round(np.geomspace(0.82, 1.22, 7), 4))  # of formants; the middle one is the speaker as recorded


@dataclass(frozen=True)
class Voices:
    """All of it in the order of `frames`; the first axis of what depends on the voice is WARPS."""

    frames: Frames
    semantic: np.ndarray  # float32 (WARPS, frames, SEMANTIC), as the encoder hears it: LOOK_AHEAD late
    side: np.ndarray  # float32 (frames, SIDE)
    latents: np.ndarray  # float32 (WARPS, frames, LATENT), before quantisation
    codes: np.ndarray  # int64 (WARPS, frames, levels)
    to_come: np.ndarray  # float32 (frames, SEMANTIC), of the teacher
    tokens: np.ndarray  # int64 (frames,), of pitch
    speakers: np.ndarray  # int64 (clips,), who speaks


def voices_of(
    frames: Frames, running: Running, encoder: SemanticEncoder, teacher: SemanticTeacher, codec: Codec, warps: Sequence[float] = WARPS
) -> Voices:
    """Run the trained networks over all clips, one at a time and from its beginning, as a stream is."""
    semantic, side, latents, to_come = [], [], [], []
    with torch.no_grad():
        for clip in range(len(frames.clips)):
            rows = slice(int(frames.starts[clip]), int(frames.starts[clip + 1]))
            bands = torch.from_numpy(np.stack([frames.bands(rows, w) for w in warps]))
            pitch = [torch.from_numpy(a[rows])[None, :, None].expand(len(warps), -1, -1) for a in (frames.voiced, frames.log_hz)]
            relative, sides, _ = running(bands, *pitch)
            semantic.append(encoder(relative)[0].numpy())
            side.append(sides[len(warps) // 2].numpy())
            samples = np.zeros((1, bands.shape[1] * HOP), np.float32)
            samples[0, : len(frames.clips[clip].samples)] = frames.clips[clip].samples
            own = codec.encode(torch.from_numpy(samples).expand(len(bands), -1), bands)[0]
            latents.append(own.numpy())
            to_come.append(teacher(relative[len(warps) // 2][None])[0][0].numpy())
        every = np.concatenate(latents, 1)
        codes = codec.quantiser.codes(torch.from_numpy(every)).numpy()
    names = [c.speaker for c in frames.clips]
    order = {n: i for i, n in enumerate(dict.fromkeys(names))}
    return Voices(
        frames, np.concatenate(semantic, 1), np.concatenate(side), every, codes, np.concatenate(to_come), frames.tokens,
        np.array([order[n] for n in names], np.int64),
    )  # fmt: skip
