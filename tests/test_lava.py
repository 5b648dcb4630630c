"""Lava's fixed-point Loihi 2 gives the integer network's answers, bit for bit; what netx cannot say is refused."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit import bundle as bundles
from edgekit import integer_net, registry, spiking_net
from edgekit.bundle import Allowed, Bundle, Golden, Lineage, Manifest, Model
from edgekit.errors import EdgekitError, Missing
from edgekit.parts import Exporter, Runtime
from edgekit.program import once
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

engine = importlib.import_module("edgekit.runtimes.lava")
netx = importlib.import_module("edgekit.exporters.lava")
ROWS_LEFT = 3  # golden samples


# ---- networks: random weights, thresholds in the middle of the currents, so that every layer spikes now and then


def random_net(input_shape, levels, offset, *layers):
    """An integer network. layers: dicts with the output size or weight shape, and the geometry of a Synapse."""
    rng = np.random.default_rng(len(layers) + offset)
    net = SpikingNet(input_shape, offset, 1 / 8, (-offset, levels - 1 - offset), (), 1.0)
    values = {INPUT: (images_for(net, 50).astype(np.float64) - offset) / 8}
    for i, layer in enumerate(layers):
        source = net.populations[-1].name if i else INPUT
        made = Synapse(source, weight=np.ones(layer["weight"]), **{k: v for k, v in layer.items() if k != "weight"})
        weight = rng.normal(0, 1, layer["weight"]) / np.sqrt(made.weight[0].size)
        shape = spiking_net.synapse_shape(made, net.shape_of(source))
        p = Population(f"{made.kind}{i}", shape, (dataclasses.replace(made, weight=weight),), rng.normal(0, 0.1, shape[0]), None)
        if i < len(layers) - 1:
            u = spiking_net.current(p, values)
            p = dataclasses.replace(p, threshold=float(np.quantile(u, 0.7)))
            values[p.name] = (u > p.threshold).astype(np.float64)
        net = dataclasses.replace(net, populations=(*net.populations, p))
    return integer_net.quantise(net)


def images_for(net: SpikingNet, samples: int) -> np.ndarray:
    low, high = net.input_range[0] + net.input_offset, net.input_range[1] + net.input_offset
    return np.random.default_rng(7).integers(low, high + 1, (samples, *net.input_shape)).astype(np.uint8)


def dense_net():
    return random_net(
        (1, 6, 5), 17, 0, {"kind": "dense", "weight": (40, 30)}, {"kind": "dense", "weight": (24, 40)},
        {"kind": "dense", "weight": (10, 24)},
    )  # fmt: skip


def conv_net():
    """Nothing is square or symmetric, and every kind of pooling occurs, with dropped rows and columns."""
    return random_net(
        (2, 21, 10), 17, 8,
        {"kind": "conv", "weight": (8, 2, 3, 2), "stride": (2, 1), "padding": (2, 0)},  # (8, 12, 9)
        {"kind": "conv", "weight": (12, 2, 3, 2), "groups": 4, "pool": (2, 2)},  # (8, 6, 4) -> (12, 4, 3)
        {"kind": "conv", "weight": (6, 4, 1, 2), "groups": 3, "padding": (1, 0), "pool": (2, 1)},  # (12, 2, 3) -> (6, 4, 2)
        {"kind": "conv", "weight": (12, 6, 2, 2), "dilation": (3, 1), "padding": (2, 1)},  # (12, 5, 3)
        {"kind": "dense", "weight": (20, 24), "pool": (2, 2)},  # (12, 2, 1)
        {"kind": "dense", "weight": (10, 20)},
    )  # fmt: skip


def signed_net():
    """Input from -128 to 127; the read-out is a map."""
    return random_net(
        (1, 9, 8), 256, 128,
        {"kind": "conv", "weight": (5, 1, 3, 3), "stride": (2, 2), "padding": (1, 1)},  # (5, 5, 4)
        {"kind": "conv", "weight": (3, 5, 2, 3)},  # (3, 4, 2)
    )  # fmt: skip


# ---- bundles


def parent_of(net: SpikingNet, folder: Path) -> Bundle:
    """A nir:int8 bundle as far as Lava's exporter reads it: its integer network, manifest and golden answers."""
    names = tuple(p.name for p in net.populations if p.spiking)
    classes = int(np.prod(net.populations[-1].shape))
    image = images_for(net, ROWS_LEFT)
    answers = spiking_net.simulate(net, image)
    signature = Signature(
        (Tensor("image", "uint8", ("batch", *net.input_shape)),), (Tensor("logits", "float32", ("batch", classes)),)
    )
    manifest = Manifest(
        "tiny", "nir", "int8", signature, {"main": bundles.GraphFile("integer_net.safetensors", signature, names)},
        once(("image",), ("logits",)), bundles.GoldenNote("the simulator", "drawn"),
        Model("none", {}, "0" * 64, "accuracy", 0.5, 10), Allowed(exact=True), Lineage("calibrate loihi", "0" * 64, {}, {}),
    )  # fmt: skip
    golden = Golden({"image": image}, {"logits": answers["logits"]}, exact=answers)
    with bundles.new_bundle(folder, manifest, [golden]) as draft:
        spiking_net.save(net, draft / "integer_net.safetensors")
    return bundles.open_bundle(folder)


def compiled(net: SpikingNet, folder: Path) -> Bundle:
    return registry.find(Exporter, "lava").export(parent_of(net, folder / "nir"), folder / "lava", {})


def with_layer(net: SpikingNet, i: int, synapse: dict | None = None, **changes) -> SpikingNet:
    """The network with fields of population `i`, or of its synapse, changed."""
    populations = list(net.populations)
    if synapse is not None:
        changes["synapses"] = (dataclasses.replace(populations[i].synapses[0], **synapse),)
    populations[i] = dataclasses.replace(populations[i], **changes)
    return dataclasses.replace(net, populations=tuple(populations))


@pytest.fixture
def lava() -> Runtime:
    runtime = registry.find(Runtime, "lava")
    if runtime.ready():
        pytest.skip("lava is not set up: edgekit setup lava")
    return runtime


# ---- the same answers


@pytest.mark.parametrize(
    ("make", "samples"), [(dense_net, 120), (conv_net, 360), (signed_net, 120)], ids=lambda v: getattr(v, "__name__", None)
)
def test_lava_gives_every_logit_and_every_spike_of_the_integer_network(lava, tmp_path, monkeypatch, make, samples):
    (tmp_path / "numpy.py").write_text("raise ImportError('the numpy of another environment')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    net = make()
    image = images_for(net, samples)
    expected = spiking_net.simulate(net, image)
    with lava.open(compiled(net, tmp_path), probes=True) as session:
        got = session.run({"image": image})
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name].dtype == values.dtype and got[name].shape == values.shape
        assert (got[name] != values).sum() == 0, name
        assert name == "logits" or 0.1 < values.mean() < 0.6, f"{name} hardly ever changes"
    neighbour = np.roll(expected["logits"], 1, axis=0)
    assert (neighbour != expected["logits"]).any(axis=1).mean() > 0.9, "a slip by one step would hardly be seen"


def test_without_probes_only_the_outputs_come(lava, tmp_path):
    net = dense_net()
    image = images_for(net, 1)
    with lava.open(compiled(net, tmp_path)) as session:
        for _ in range(2):  # no state is left from one run to the next
            got = session.run({"image": image})
            assert list(got) == ["logits"]
            np.testing.assert_array_equal(got["logits"], spiking_net.simulate(net, image)["logits"])


def test_a_weight_matrix_that_is_refused_would_indeed_come_out_wrong(lava, tmp_path, monkeypatch):
    net = inhibitory_net(-64)
    image = images_for(net, 20)
    monkeypatch.setattr(netx, "_check_layer", lambda layer: None)
    with lava.open(compiled(net, tmp_path)) as session:
        got = session.run({"image": image})["logits"]
    assert (got != spiking_net.simulate(net, image)["logits"]).any()


# ---- what cannot be said exactly


def inhibitory_net(lowest: int) -> SpikingNet:
    """A read-out without a positive weight."""
    net = dense_net()
    return with_layer(net, 2, {"weight": np.where(np.arange(240).reshape(10, 24) % 5 == 0, lowest, -3).astype(np.int8)})


def residual_net() -> SpikingNet:
    net = dense_net()
    out = net.populations[2]
    shortcut = Synapse("dense0", "dense", np.ones((10, 40), np.int8))
    return with_layer(net, 2, synapses=(*out.synapses, shortcut))


def skipping_net() -> SpikingNet:
    return with_layer(dense_net(), 2, {"source": "dense0", "weight": np.ones((10, 40), np.int8)})


def pooled(pool: tuple[int, int], **geometry) -> SpikingNet:
    return random_net((1, 7, 6), 17, 0, {"kind": "conv", "weight": (2, 1, 1, 1)},
                      {"kind": "conv", "weight": (3, 2, 2, 2), "pool": pool, **geometry})  # fmt: skip


def wide_stride() -> SpikingNet:
    return random_net((1, 150, 2), 17, 0, {"kind": "conv", "weight": (2, 1, 1, 1)},
                      {"kind": "conv", "weight": (3, 2, 1, 1), "pool": (2, 1), "stride": (64, 1)})  # fmt: skip


def float_net() -> SpikingNet:
    net = dense_net()
    return with_layer(net, 1, bias=net.populations[1].bias.astype(np.float32))


ZEROS = np.zeros((24, 40), np.int8)
ONES = np.full((24, 40), 127, np.int8)

REFUSED = {
    "a float network": (float_net, "float weights; quantise it first"),
    "a weight beyond 8 bits": (lambda: with_layer(dense_net(), 1, {"weight": ZEROS.astype(np.int16) + 256}),
                               "layer 'dense1': weight from 'dense0' runs from 256 to 256, the hardware holds -128..127"),
    "a bias beyond 13 bits": (lambda: with_layer(dense_net(), 1, bias=np.full(24, -4097)), "layer 'dense1': bias runs from -4097"),
    "a threshold beyond 17 bits": (lambda: with_layer(dense_net(), 1, threshold=131072), "layer 'dense1': threshold runs from 131072"),
    "a threshold below 0": (lambda: with_layer(dense_net(), 1, threshold=-1), "layer 'dense1': threshold runs from -1"),
    "a threshold that is cut": (lambda: with_layer(dense_net(), 1, threshold=6.5), "layer 'dense1': the threshold 6.5 is not an integer"),
    "a current beyond the accumulator": (lambda: dataclasses.replace(dense_net(), input_range=(0, 4000)),
                                         "layer 'dense0': its current can reach .*, the accumulator holds 131071"),
    "an input beyond a graded spike": (lambda: dataclasses.replace(with_layer(dense_net(), 0, {"weight": (np.eye(40, 30)).astype(np.int8)}),
                                                                   input_range=(-70000, 5)), "takes 18 bits, but a graded spike has 16"),
    "a residual network": (residual_net, "layer 'dense2' listens to 'dense1', 'dense0', but netx is sequential"),
    "a layer that skips one": (skipping_net, "layer 'dense2' listens to 'dense0', but netx is sequential"),
    "a layer without synapses": (lambda: with_layer(dense_net(), 1, synapses=()), "layer 'dense1' listens to nothing"),
    "a dense matrix of zeros": (lambda: with_layer(dense_net(), 1, {"weight": ZEROS}), "layer 'dense1': all its weights are 0"),
    "a dense matrix that netx clips": (lambda: inhibitory_net(-64), "layer 'dense2': no weight is positive and the lowest is -64"),
    "a dense matrix of -128": (lambda: with_layer(dense_net(), 1, {"weight": -1 - ONES}), "layer 'dense1': .* the lowest is -128"),
    "padding where pooling drops a row": (lambda: pooled((2, 2), padding=(1, 0)), "'conv1': a padded convolution after 2 x 2 pooling of a 7 x 6"),
    "padding where pooling drops a column": (lambda: pooled((1, 4), padding=(0, 1)), "layer 'conv1': a padded convolution after 1 x 4"),
    "dilation after pooling": (lambda: pooled((1, 2), dilation=(2, 1)), r"layer 'conv1': .*dilation \(2, 1\) after pooling"),
    "a stride beyond 127": (wide_stride, r"layer 'conv1': .*stride \(128, 1\).* must not exceed 127"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_netx_cannot_say_exactly_is_refused_by_the_layer_s_name(case, tmp_path):
    make, text = REFUSED[case]
    with pytest.raises(EdgekitError, match=text):
        netx.netx_layers(make())


@pytest.mark.parametrize("lowest", [-63, -65, -127])
def test_other_inhibitory_matrices_are_not_refused(lowest):
    assert len(netx.netx_layers(inhibitory_net(lowest))) == 3


def test_padding_along_an_axis_that_pooling_divides_is_not_refused():
    assert netx.netx_layers(pooled((2, 2), padding=(0, 1)))[1].padding == (0, 2)


# ---- the file


@pytest.mark.parametrize("pool", [(2, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize("size", [(12, 6), (13, 8)])
def test_folded_pooling_gives_the_same_currents(pool, kind, size):
    rng = np.random.default_rng(3)
    small = (size[0] // pool[0], size[1] // pool[1])
    weight = rng.integers(-9, 10, (4, 2, 2, 1) if kind == "conv" else (4, 3 * small[0] * small[1])).astype(np.int8)
    # the conv pads only where pooling drops nothing
    padding = (int(size[0] % pool[0] == 0), int(size[1] % pool[1] == 0)) if kind == "conv" else (0, 0)
    channels = 4 if kind == "conv" else 3
    synapse = Synapse(INPUT, kind, weight, stride=(2, 1), padding=padding, groups=2 if kind == "conv" else 1, pool=pool)
    shape = spiking_net.synapse_shape(synapse, (channels, *size))
    p = Population("only", shape, (synapse,), np.zeros(4, np.int32), None)
    net = SpikingNet((channels, *size), 0, 1.0, (0, 1), (p,), 1.0)
    (layer,) = netx.netx_layers(net)
    folded = Synapse(INPUT, kind, layer.weight, layer.stride, layer.padding, layer.dilation, layer.groups)
    values = {INPUT: rng.integers(0, 2, (5, channels, *size)).astype(np.float64)}
    np.testing.assert_array_equal(
        spiking_net.current(dataclasses.replace(p, synapses=(folded,)), values), spiking_net.current(p, values)
    )


def test_the_bundle_carries_what_the_parent_had(tmp_path):
    net = conv_net()
    parent = parent_of(net, tmp_path / "nir")
    made = registry.find(Exporter, "lava").export(parent, tmp_path / "lava", {})
    assert made.label == "lava:int8" and made.graph().name == "model.net"
    assert made.manifest.lineage.parent_sha256 == parent.sha256
    same = ("signature", "model", "allowed", "probes", "name")
    assert all(getattr(made.manifest, f) == getattr(parent.manifest, f) for f in same)
    assert (made.folder / "integer_net.safetensors").read_bytes() == parent.graph().read_bytes()
    for group in ("inputs", "outputs", "exact"):
        ours, theirs = getattr(made.golden(), group), getattr(parent.golden(), group)
        assert ours.keys() == theirs.keys() != set()
        assert all(np.array_equal(ours[n], theirs[n]) for n in theirs)


def test_netx_finds_what_it_needs_and_nothing_that_breaks_it(tmp_path):
    import h5py

    made = compiled(conv_net(), tmp_path)
    with h5py.File(made.graph()) as file:
        layers = [file[f"layer/{i}"] for i in range(len(file["layer"]))]
        types = [layer["type"][0].decode() for layer in layers]
        assert types == ["input", "conv", "conv", "conv", "conv", "flatten", "dense", "dense"]
        assert "neuron" not in layers[0]
        neurons = [layer["neuron"] for layer in layers if "weight" in layer]
        assert all(set(n) == {"type", "iDecay", "vDecay", "vThMant"} for n in neurons)
        assert all(n["vThMant"].shape == () and n["iDecay"][()] == n["vDecay"][()] == 4096 for n in neurons)
        assert neurons[-1]["vThMant"][()] == 131071 > max(n["vThMant"][()] for n in neurons[:-1])
        assert all(np.issubdtype(layer[k].dtype, np.integer) for layer in layers if "weight" in layer for k in ("weight", "bias"))


def test_the_same_network_gives_the_same_file_and_is_not_written_twice(tmp_path):
    first, second = compiled(signed_net(), tmp_path / "a"), compiled(signed_net(), tmp_path / "b")
    assert first.manifest.files == second.manifest.files
    before = (first.folder / bundles.MANIFEST).stat().st_ino
    again = registry.find(Exporter, "lava").export(bundles.open_bundle(tmp_path / "a" / "nir"), first.folder, {})
    assert again.sha256 == first.sha256
    assert (first.folder / bundles.MANIFEST).stat().st_ino == before


def test_only_an_integer_nir_bundle_is_compiled(tmp_path):
    made = compiled(signed_net(), tmp_path)
    with pytest.raises(EdgekitError, match=r"compiled from a bundle nir:int8, found lava:int8"):
        registry.find(Exporter, "lava").export(made, tmp_path / "again", {})
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(("limits", "bits"), [((0, 1), 1), ((0, 16), 5), ((-8, 8), 5), ((-128, 127), 9), ((0, 255), 8)])
def test_message_bits_hold_the_input_and_its_sign(limits, bits):
    assert netx._message_bits(dataclasses.replace(dense_net(), input_range=limits)) == bits


# ---- a run that goes wrong


def test_a_run_over_its_time_limit_is_ended_with_all_its_processes(lava, tmp_path, monkeypatch):
    net = conv_net()
    made = compiled(net, tmp_path)
    monkeypatch.setenv("EDGEKIT_LAVA_LIMIT_S", "2.5")  # in the middle of the run: about 2 s pass before it begins
    with lava.open(made) as session, pytest.raises(
        EdgekitError, match=r"bundle 'tiny' \(5000 samples\) took longer than 2.5 s .*more time with EDGEKIT_LAVA_LIMIT_S"
    ):
        session.run({"image": images_for(net, 5000)})
    assert not processes_that_mention(str(made.graph()))


def test_lava_and_all_that_it_forked_end_with_an_edgekit_that_was_killed(lava, tmp_path):
    net = conv_net()
    made = compiled(net, tmp_path)
    np.save(tmp_path / "x.npy", images_for(net, 20_000))
    code = (
        "import sys, numpy as np\nfrom edgekit import registry\nfrom edgekit.bundle import open_bundle\nfrom edgekit.parts import Runtime\n"
        "with registry.find(Runtime, 'lava').open(open_bundle(sys.argv[1])) as session:\n    session.run({'image': np.load(sys.argv[2])})\n"
    )
    command = [sys.executable, "-c", code, str(made.folder), str(tmp_path / "x.npy")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}, start_new_session=True) as edgekit:
        until = time.monotonic() + 120
        while len(processes_that_mention(str(made.graph()))) < 3 and time.monotonic() < until:  # the runner, and what Lava forked from it
            assert edgekit.poll() is None
            time.sleep(0.05)
        edgekit.kill()
    until = time.monotonic() + 60
    while (left := processes_that_mention(str(made.graph()))) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def processes_that_mention(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if text in line else []
    return found


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_time_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("EDGEKIT_LAVA_LIMIT_S", text)
    with pytest.raises(EdgekitError, match=f"EDGEKIT_LAVA_LIMIT_S is a number of seconds above 0, found '{text}'"):
        engine.run_limit_s()


def test_an_exception_in_the_child_becomes_one_sentence(lava, tmp_path):
    net = dense_net()
    made = compiled(net, tmp_path)
    made.graph().write_bytes(b"this is no HDF5 file")
    with lava.open(made) as session, pytest.raises(EdgekitError) as caught:
        session.run({"image": images_for(net, 2)})
    assert str(caught.value).startswith("lava on bundle 'tiny' (2 samples) failed: OSError: ")
    assert "\n" not in str(caught.value)


def test_a_killed_child_is_reported_though_its_own_children_live_on():
    fork = "import os, signal, subprocess; subprocess.Popen(['sleep', '987']); os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(EdgekitError, match="^it was killed by SIGKILL; most likely memory ran out"):
        engine.run_child([sys.executable, "-c", fork], "it", 60.0)
    assert not [line for line in processes_that_mention("sleep 987") if line.startswith("sleep")]


def test_a_child_that_fails_in_silence_is_reported():
    with pytest.raises(EdgekitError, match="^it failed: it said nothing$"):
        engine.run_child([sys.executable, "-c", "raise SystemExit(3)"], "it", 60.0)


def test_inputs_beyond_the_range_of_the_network_are_refused(lava, tmp_path):
    net = conv_net()
    image = images_for(net, 4)
    with lava.open(compiled(net, tmp_path)) as session:
        with pytest.raises(EdgekitError, match=r"the input runs from 0 to 17, but this network was made for 0\.\.16"):
            session.run({"image": np.where(image == image.max(), 17, image).astype(np.uint8)})
        with pytest.raises(EdgekitError, match="no samples"):
            session.run({"image": image[:0]})
        with pytest.raises(EdgekitError, match="'image' must be uint8"):
            session.run({"image": image.astype(np.float32)})


# ---- the isolated environment


def test_without_the_environment_the_command_that_builds_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    runtime = registry.find(Runtime, "lava")
    assert "edgekit setup lava" in runtime.ready()
    with pytest.raises(Missing, match="edgekit setup lava"), runtime.open(compiled(dense_net(), tmp_path / "b")):
        pass


def test_a_half_built_environment_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    folder = engine.environment()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    assert registry.find(Runtime, "lava").ready()
    (folder / ".complete").write_text("")
    assert not registry.find(Runtime, "lava").ready()
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(tmp_path / "a python that was removed")
    assert registry.find(Runtime, "lava").ready()


def test_a_set_up_that_fails_leaves_nothing_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    broken = tmp_path / "python3.11"
    broken.write_text("#!/bin/sh\necho 'ensurepip is not available' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(engine, "find_python", lambda: str(broken))
    seen: list[str] = []
    with pytest.raises(EdgekitError, match="could not make an environment: .*ensurepip is not available; mend that and run"):
        registry.find(Runtime, "lava").setup(lambda what, done, total: seen.append(what))
    assert seen == ["make an environment"]
    assert os.listdir(tmp_path) == ["python3.11"]  # noqa: PTH208


@pytest.mark.slow
def test_a_fresh_environment_is_built_and_gives_the_same_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    runtime = registry.find(Runtime, "lava")
    seen: list[tuple[int, int]] = []
    said = runtime.setup(lambda what, done, total: seen.append((done, total)))
    assert "lava-dl 0.6.0 on lava-nc 0.10.0" in said and runtime.ready() == ""
    assert seen == [(i, 4) for i in range(5)]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [engine.environment().name]
    net = dense_net()
    image = images_for(net, 100)
    with runtime.open(compiled(net, tmp_path)) as session:
        np.testing.assert_array_equal(session.run({"image": image})["logits"], spiking_net.simulate(net, image)["logits"])


def test_set_up_again_does_nothing(lava):
    assert lava.setup(lambda what, done, total: pytest.fail(what)).startswith("lava was set up before")


def test_a_python_that_lava_cannot_use_is_named(monkeypatch):
    monkeypatch.setattr(engine, "PYTHONS", ((2, 99),))
    with pytest.raises(Missing, match=r"this is 3\.\d+ and PATH has neither; install python3\.11"):
        engine.find_python()


def test_a_shim_without_a_python_behind_it_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "shims").mkdir()
    (tmp_path / "real").mkdir()
    for where, text in (("shims", "exit 127"), ("real", "exit 0")):
        for name in ("python2.98", "python2.99"):
            path = tmp_path / where / name
            if (where, name) != ("real", "python2.99"):
                path.write_text(f"#!/bin/sh\n{text}\n")
                path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    monkeypatch.setattr(engine, "PYTHONS", ((2, 99), (2, 98)))
    with pytest.raises(Missing):
        engine.find_python()
    (tmp_path / "shims" / "python2.98").unlink()
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'real'}")
    assert engine.find_python() == str(tmp_path / "real" / "python2.98")
