"""Noise by place: the published generator, the right distributions, the same numbers whatever is drawn beside them."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.noise import draw, philox


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers that Random123 publishes for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_published_answers(counter, key, words):
    assert philox(np.array([counter], np.uint32), key)[0].tolist() == list(words)


def test_the_distributions_are_what_they_are_called():
    from scipy import stats

    normal, uniform = (draw(d, (100_000,), 7, 1).astype(np.float64) for d in ("normal", "uniform"))
    assert stats.kstest(normal, "norm").pvalue > 0.001
    assert stats.kstest(uniform, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < 0.02
    assert uniform.min() >= 0 and uniform.max() < 1


def test_a_number_depends_on_its_place_alone():
    large = draw("normal", (8, 5, 3), 2**40 + 1, 3, 4, 5)
    assert np.array_equal(large[:2], draw("normal", (2, 5, 3), 2**40 + 1, 3, 4, 5))
    others = [draw("normal", (8, 5, 3), *place) for place in ((1, 3, 4, 5), (2**40 + 1, 2, 4, 5), (2**40 + 1, 3, 3, 5), (2**40 + 1, 3, 4, 4))]
    assert not any(np.isclose(large, other).any(axis=None) and np.allclose(large, other) for other in others)
    assert draw("normal", (0, 3), 1, 1).shape == (0, 3)
