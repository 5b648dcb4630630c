"""What a linear classifier finds in codes: multinomial logistic regression on few labels, the same for every kind of code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from edgekit.models._diffusion.data import Pictures, Split

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of the regression; chosen by validation for each kind of code and number of labels
EACH, TOGETHER = "each", "together"  # what has deviation 1: every number (of principal components: whitened), or all together
Scaling = Literal["each", "together"]
MOST_ITERATIONS = 300
DRAW_SEED = 9  # of the labels, the same for every code and every training seed


@dataclass(frozen=True)
class Probe:
    """A linear answer for each head: the largest of code @ weights + biases."""

    heads: tuple[str, ...]
    weights: tuple[np.ndarray, ...]  # float32 (dims, values) of each head
    biases: tuple[np.ndarray, ...]  # float32 (values,)

    def right(self, codes: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """The share of pictures that is told right, of each head: float64 (heads,)."""
        answers = [(codes @ w + b).argmax(1) for w, b in zip(self.weights, self.biases, strict=True)]
        shares: np.ndarray = (np.stack(answers, 1) == conditions).mean(0)
        return shares

    def to_json(self) -> dict[str, Any]:
        """As plain values, to five digits."""
        rounded = [[[float(f"{v:.5g}") for v in row] for row in (*w, b)] for w, b in zip(self.weights, self.biases, strict=True)]
        return {"heads": list(self.heads), "rows": rounded}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Probe:
        """From plain values."""
        rows = [np.array(r, np.float32) for r in data["rows"]]
        return Probe(tuple(data["heads"]), tuple(r[:-1] for r in rows), tuple(r[-1] for r in rows))


def draws(count: int, labels: int, times: int) -> list[np.ndarray]:
    """Rows of training pictures whose labels are known: `times` draws of `labels`, each a prefix of an order of its own."""
    orders = [np.random.default_rng((DRAW_SEED, i)).permutation(count) for i in range(times)]
    return [order[:labels] for order in orders]


def fitted(codes: np.ndarray, pictures: Pictures, rows: np.ndarray, strength: float, scaling: Scaling = "each") -> Probe:
    """A probe from the labels of some training pictures. Codes are brought to mean 0 and deviation 1 over all of them, each number or all
    together, which needs no label; that is folded into the weights. A head whose labels are all one value always answers it."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = codes.mean(0, dtype=np.float64), codes.std(0, dtype=np.float64)
    if scaling == TOGETHER:
        deviation = np.full_like(deviation, np.sqrt((deviation**2).mean()))
    deviation = np.where(deviation > 0, deviation, 1)
    scaled = (codes[rows] - mean) / deviation
    weights, biases = [], []
    for head, values in enumerate(pictures.values):
        labels = pictures.conditions[rows, head]
        weight, bias = np.zeros((codes.shape[1], len(values))), np.full(len(values), -1e6)
        known = np.unique(labels)
        bias[known] = 0
        if len(known) > 1:
            model = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS).fit(scaled, labels)
            if len(known) == 2:  # one row of coefficients, of the second value
                weight[:, known[1]], bias[known[1]] = model.coef_[0], model.intercept_[0]
            else:
                weight[:, known], bias[known] = model.coef_.T, model.intercept_
        folded = weight / deviation[:, None]
        weights.append(folded.astype(np.float32))
        biases.append((bias - mean @ folded).astype(np.float32))
    return Probe(pictures.heads, tuple(weights), tuple(biases))


@dataclass(frozen=True)
class Codes:
    """The codes of the three parts of a split, float (N, dims) each."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Probed:
    """How well a code does with so many labels: means over draws of labels."""

    labels: int
    strength: float
    scaling: Scaling
    validation: float  # mean over heads
    test: float
    by_head: tuple[float, ...]  # on test pictures


def probed(codes: Codes, split: Split, labels: Sequence[int], times: int, scalings: Sequence[Scaling] = ("each",)) -> list[Probed]:
    """Probes on each number of labels; strength, and scaling where there are several, chosen on validation pictures."""
    found = []
    for count in labels:
        rows = draws(len(codes.train), count, times)
        tried = []
        for scaling, strength in product(scalings, STRENGTHS):
            probes = [fitted(codes.train, split.train, r, strength, scaling) for r in rows]
            held = float(np.mean([p.right(codes.validation, split.validation.conditions).mean() for p in probes]))
            tried.append((held, strength, scaling, probes))
        held, strength, scaling, probes = max(tried, key=lambda t: t[0])
        by_head = np.mean([p.right(codes.test, split.test.conditions) for p in probes], 0)
        found.append(Probed(count, strength, scaling, held, float(by_head.mean()), tuple(float(v) for v in by_head)))
    return found


def principal(split: Split, dims: int) -> Codes:
    """Principal components of the training pictures' pixels; a probe that brings each to deviation 1 sees the whitened ones."""
    train = split.train.images.reshape(len(split.train), -1).astype(np.float64)
    mean = train.mean(0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    parts = (split.train.images, split.validation.images, split.test.images)
    return Codes(*((p.reshape(len(p), -1) - mean) @ axes[:dims].T for p in parts))
