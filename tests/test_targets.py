"""A target file is read strictly, and every figure in it has its source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit import registry, target
from edgekit.errors import EdgekitError
from edgekit.parts import Meter
from edgekit.prices import PROFILES

GOOD = 'label = "x"\nkind = "cpu"\nruntimes = ["a"]\nprecisions = ["f32"]\nmeter = "none"\n'


@pytest.mark.parametrize("name", target.names())
def test_every_target_is_readable_and_names_things_that_exist(name):
    device = target.load(name)
    assert device.name == name
    assert device.meter in registry.names(Meter)
    assert set(device.prices) <= set(PROFILES)
    assert all(f.source.strip() and f.unit.strip() for f in device.known_figures())


def test_the_first_targets_are_there():
    assert {"host", "loihi1", "loihi2_sim"} <= set(target.names())


def test_the_host_is_probed_not_typed():
    figures = {f.name: f for f in target.load("host").known_figures()}
    assert figures["usable_cores"].value == len(os.sched_getaffinity(0))
    kib = int(next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal")).split()[1])
    assert figures["memory"].value == pytest.approx(kib / 1024, rel=0.01)
    assert target.processor()


def test_the_prices_typed_in_a_target_are_those_that_estimates_use():
    figures = {f.name: f.value for f in target.load("loihi1").figures}
    prices = PROFILES["loihi1-davies2018"]
    assert prices.ac_dense is not None and prices.neuron_active is not None and prices.neuron_inactive is not None
    assert figures["synaptic_operation"] == prices.ac_dense.mid
    assert figures["neuron_update_active"] == prices.neuron_active.mid
    assert figures["neuron_update_inactive"] == prices.neuron_inactive.mid


def test_loihi_2_is_a_simulator_and_has_no_price_of_its_own():
    device = target.load("loihi2_sim")
    assert device.simulated and device.prices[0] == "loihi2"
    assert PROFILES["loihi2"].reason
    assert not any(f.unit.endswith("J") for f in device.figures)


def test_a_target_of_your_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    assert target.load(file) == target.load(str(file)) == target.read(GOOD, "mine", "")


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(EdgekitError, match="no target 'loihi3'; there are: .*host, .*loihi2_sim"):
        target.load("loihi3")
    with pytest.raises(EdgekitError, match="cannot read the target file nowhere/x.toml"):
        target.load("nowhere/x.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + 'colour = "red"', "unknown key 'colour'"),
        (GOOD.replace('meter = "none"', ""), "'meter' is missing"),
        (GOOD.replace('"cpu"', '"toaster"'), "kind must be one of 'cpu'"),
        (GOOD.replace('["a"]', "[]"), "at least one runtime"),
        (GOOD.replace('"f32"', '"f31"'), r"precisions\[0\] must be one of"),
        (GOOD + 'name = "y"', "named by its file"),
        (GOOD + "here = 1", "here must be bool"),
        (GOOD + '[[figures]]\nname = "a"\nvalue = 1\nunit = "W"\ngrade = "measured"', "'source' is missing"),
        (GOOD + 2 * '[[figures]]\nname = "a"\nvalue = 1\nunit = "W"\nsource = "s"\ngrade = "measured"\n', "given once"),
        (GOOD + 'here = true\n[[figures]]\nname = "a"\nvalue = 1\nunit = "W"\nsource = "s"\ngrade = "measured"', "are probed"),
        (GOOD + "[", "is not TOML"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_with_its_file(text, says):
    with pytest.raises(EdgekitError, match=r"^targets/mine\.toml.*" + says):
        target.read(text, "mine", "targets/mine.toml")


def test_no_meter_gives_no_number_but_a_reason():
    meter = registry.find(Meter, "none")
    assert meter.energy_j() is None
    assert "no energy counter" in meter.available()
