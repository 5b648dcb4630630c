"""How much a linear classifier finds in a frame's vectors: what is said (wanted), and who says it (not wanted)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgekit.models._voice.corpora import Clip
from edgekit.models._voice.pairing import digit_strings
from edgekit.models._voice.spectra import HOP

Vectors = Callable[[np.ndarray], np.ndarray]  # float32 (n,) at 16 kHz -> (frames, width), frame t of HOP samples


def digit_probe(vectors: Vectors, clips: Sequence[Clip], held_out: frozenset[str]) -> float:
    """The share of digits of held-out speakers that logistic regression on the mean vector of a digit tells, learned from the others.

    clips: single digits; they are heard in strings of five, as the converter hears them."""
    strings = digit_strings(clips)
    rows, digits, held = [], [], []
    for string in strings:
        found = vectors(string.samples)
        for digit, (start, length) in zip(string.text, string.spans, strict=True):
            rows.append(found[start // HOP : (start + length) // HOP + 1].mean(0))
            digits.append(int(digit))
            held.append(string.speaker in held_out)
    return _probe(np.stack(rows), np.array(digits), np.array(held))


def speaker_probe(vectors: Vectors, clips: Sequence[Clip]) -> float:
    """The share of clips, every second one, whose speaker logistic regression on the mean vector tells, learned from the others."""
    names = sorted({c.speaker for c in clips})
    rows = np.stack([vectors(c.samples).mean(0) for c in clips])
    return _probe(rows, np.array([names.index(c.speaker) for c in clips]), np.arange(len(clips)) % 2 == 1)


def _probe(rows: np.ndarray, labels: np.ndarray, held: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(model.fit(rows[~held], labels[~held]).score(rows[held], labels[held]))
