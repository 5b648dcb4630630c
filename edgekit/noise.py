"""Noise that depends on its place alone: Philox4x32-10 and Box-Muller, so that Python and C++ draw the same numbers.

Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11: ten rounds, multipliers D2511F53 and
CD9E8D57, key increments 9E3779B9 and BB67AE85. The counter is (block, id, iteration, chunk), the key the seed.
"""

from __future__ import annotations

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds over counters uint32 (n, 4) with one key of two 32-bit words; uint32 (n, 4)."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c[0], _M1 * c[2]
        c = [(p1 >> _HALF) ^ c[1] ^ np.uint64(k0), p1 & _LOW, (p0 >> _HALF) ^ c[3] ^ np.uint64(k1), p0 & _LOW]
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


def draw(
    distribution: str, shape: tuple[int, ...], seed: int, identity: int, iteration: int = 0, chunk: int = 0
) -> np.ndarray:
    """float32 of `shape`: "normal" (mean 0, variance 1) or "uniform" (in [0, 1)); see docs/bundle-format.md 3."""
    count = int(np.prod(shape, dtype=np.int64))
    counter = np.empty(((count + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter), dtype=np.uint32)
    counter[:, 1:] = identity, iteration, chunk
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    if distribution == "uniform":
        values = (words >> np.uint32(8)) * 2.0**-24
    else:
        radius = np.sqrt(-2.0 * np.log((words[:, 0::2].astype(np.float64) + 1.0) * 2.0**-32))
        angle = 2.0 * np.pi * (words[:, 1::2] * 2.0**-32)
        values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1, 4)
    return values.reshape(-1)[:count].astype(np.float32).reshape(shape)
