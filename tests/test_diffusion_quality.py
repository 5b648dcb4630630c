"""The yardsticks of made pictures, held against closed forms, scipy and pictures whose quality is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from edgekit.measurement import silent
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Split, pictures
from edgekit.models._diffusion.quality import FeatureNet, feature_fid
from edgekit.train import launch


@pytest.fixture(scope="module")
def digits() -> Split:
    return pictures("digits")


@pytest.fixture(scope="module")
def made(digits: Split, tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureNet, Path]:
    """The feature network of the digits, trained for fewer epochs than usual, and its folder."""
    folder = tmp_path_factory.mktemp("features") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(quality.EPOCHS, "digits", 6)
        return quality.feature_net(launch(), digits, folder, silent), folder


def test_the_distance_of_equal_features_is_nothing_and_of_a_shift_its_square() -> None:
    x = np.random.default_rng(0).normal(size=(200, 6))
    assert feature_fid(x, x) == pytest.approx(0, abs=1e-9)
    assert feature_fid(x, x[::-1] + [3, 0, 0, 4, 0, 0]) == pytest.approx(25)


def test_the_distance_of_scaled_features_is_that_of_their_deviations() -> None:
    """Of Gaussians with covariances that commute it is |m1 - m2|^2 + sum (s1 - s2)^2."""
    x = np.random.default_rng(1).normal(size=(300, 4))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # covariance exactly 1
    first, second, gap = np.array([1.0, 2.0, 0.5, 0.0]), np.array([2.0, 0.5, 0.5, 3.0]), np.array([0.0, 1.0, 0.0, 2.0])
    assert feature_fid(x * first, x * second + gap) == pytest.approx(5 + ((first - second) ** 2).sum())


@pytest.mark.parametrize("rows", [(500, 400), (30, 500)])  # the second has fewer rows than features: a singular covariance
def test_the_distance_is_that_by_scipys_matrix_root(rows: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=(n, 40)) @ rng.normal(size=(40, 40)) + rng.normal(size=40) for n in rows)
    first, second = np.cov(a.T), np.cov(b.T)
    nudge = 1e-9 * np.eye(40)  # sqrtm wants full rank
    root = scipy.linalg.sqrtm((first + nudge) @ (second + nudge))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second) - 2 * np.trace(root).real
    assert feature_fid(a, b) == pytest.approx(expected, rel=1e-4)


def test_two_pictures_are_the_least_for_a_distance() -> None:
    with pytest.raises(ValueError, match="at least 2 pictures, found 1 and 5"):
        feature_fid(np.zeros((1, 3)), np.zeros((5, 3)))


def test_sharpness_is_the_mean_step_between_neighbours() -> None:
    stripes = np.tile(np.array([-1, 1], np.float32), (2, 3, 4, 4))
    assert quality.sharpness(stripes) == 2 and quality.sharpness(stripes[..., ::2]) == 0
    ramp = np.tile(np.linspace(-1, 1, 5, dtype=np.float32), (1, 1, 3, 1))
    assert quality.sharpness(ramp) == pytest.approx(0.5)


def test_a_copy_is_found_and_a_known_change_is_measured() -> None:
    train = np.random.default_rng(3).uniform(-1, 1, (700, 3, 8, 8)).astype(np.float32)
    changed = train[[650, 2]] + np.float32(0.01)
    found = quality.nearest(np.concatenate([train[[5, 699]], changed]), train)
    np.testing.assert_allclose(found, [0, 0, 0.01, 0.01], atol=1e-6)
    asked = np.random.default_rng(4).uniform(-1, 1, (600, 3, 8, 8)).astype(np.float32)
    brute = [np.sqrt(((train - x) ** 2).mean((1, 2, 3)).min()) for x in asked[[0, 250, 599]]]
    np.testing.assert_allclose(quality.nearest(asked, train)[[0, 250, 599]], brute, rtol=1e-5)


def test_the_feature_network_tells_digits_and_is_made_once(made: tuple[FeatureNet, Path], digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    net, folder = made
    assert quality.accuracies(net, digits.test)[0] > 0.9
    monkeypatch.setitem(quality.EPOCHS, "digits", 6)
    monkeypatch.setattr(quality, "fit", None)  # not called again
    again = quality.feature_net(launch(), digits, folder, silent)
    np.testing.assert_array_equal(quality.features(again, digits.test.images), quality.features(net, digits.test.images))
    other = dataclasses.replace(digits, train=digits.train.take(np.arange(1000)))
    with pytest.raises(TypeError):  # other pictures: it would be trained anew
        quality.feature_net(launch(), other, folder, silent)


def test_features_of_many_pictures_are_those_of_each(made: tuple[FeatureNet, Path], digits: Split) -> None:
    net, _ = made
    images = digits.train.images[:520]  # more than one piece
    found = quality.features(net, images)
    assert found.shape == (520, quality.FEATURES) and found.dtype == np.float64
    with torch.no_grad():
        np.testing.assert_allclose(found[[0, 519]], net.features(torch.from_numpy(images[[0, 519]])).numpy(), rtol=1e-4, atol=1e-5)


def test_blurred_noisy_and_absent_pictures_lie_above_the_floor(made: tuple[FeatureNet, Path], digits: Split) -> None:
    net, _ = made
    reference, real = quality.features(net, digits.train.images), digits.test.images
    lowest = quality.floor(net, digits.test, digits.train)
    blurred = (real + np.roll(real, 1, 3) + np.roll(real, 1, 2)) / 3
    noisy = real + np.random.default_rng(5).normal(0, 0.4, real.shape).astype(np.float32)
    one_digit = digits.train.images[digits.train.conditions[:, 0] == 3][:100].repeat(3, 0)
    for worse in (blurred.astype(np.float32), noisy, one_digit):
        assert feature_fid(quality.features(net, worse), reference) > 2 * lowest > 0


def test_shown_counts_what_was_requested_and_nothing_else(made: tuple[FeatureNet, Path], digits: Split) -> None:
    net, _ = made
    images, conditions = digits.test.images, digits.test.conditions
    right = quality.accuracies(net, digits.test)[0]
    assert quality.shown(net, images, conditions) == pytest.approx(right)
    assert quality.shown(net, images, (conditions + 1) % 10) < 0.05
    half = conditions.copy()
    half[150:] = 10  # not given
    assert quality.shown(net, images, half) == pytest.approx(quality.shown(net, images[:150], conditions[:150]))
    with pytest.raises(ValueError, match="an attribute was requested"):
        quality.shown(net, images, np.full_like(conditions, 10))


def test_shown_is_the_mean_over_heads_that_were_requested() -> None:
    net = FeatureNet(3, 16, (2, 4)).eval()
    images = np.random.default_rng(6).uniform(-1, 1, (40, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        told = np.stack([a.argmax(1).numpy() for a in net(torch.from_numpy(images))], 1)
    asked = told.copy()
    asked[:10, 0] = 1 - asked[:10, 0]  # a quarter of head 0 is wrong; head 1 is asked of 20 pictures, 5 of them wrongly
    asked[20:, 1] = 4
    asked[:5, 1] = (asked[:5, 1] + 1) % 4
    assert quality.shown(net, images, asked) == pytest.approx((30 / 40 + 15 / 20) / 2)
