"""What trtexec and tegrastats write is read as numbers, and stored as a measurement that was made elsewhere.

The texts are written for these tests after the formats of the tools; no device gave these numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorrt_models import conv_net, save

from edgekit import flow
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.imported import import_measurement
from edgekit.measurement import Measurement
from edgekit.trtexec_output import Layers, Log, Rails, Times, read

ROOT = Path(__file__).parent.parent
LOG = """\
[01/02/2030-03:04:05] [I] TensorRT version: 10.3.0
[01/02/2030-03:04:05] [I] Selected Device: Made-up board
[01/02/2030-03:04:06] [I] Warmup completed 70 queries over 200 ms
[01/02/2030-03:04:06] [I] Timing trace has 4 queries over 3.0 s
[01/02/2030-03:04:09] [I] === Performance summary ===
[01/02/2030-03:04:09] [I] Throughput: 321.5 qps
[01/02/2030-03:04:09] [I] Latency: min = 2 ms, max = 4 ms, mean = 2.75 ms, median = 2.5 ms, percentile(90%) = 3.55 ms, percentile(99%) = 3.9 ms
[01/02/2030-03:04:09] [I] Enqueue Time: min = 0.01 ms, max = 0.02 ms, mean = 0.015 ms, median = 0.015 ms, percentile(90%) = 0.02 ms
[01/02/2030-03:04:09] [I] H2D Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(90%) = 0 ms
[01/02/2030-03:04:09] [I] GPU Compute Time: min = 1.9 ms, max = 3.9 ms, mean = 2.65 ms, median = 2.4 ms, percentile(90%) = 3.45 ms
[01/02/2030-03:04:09] [I] D2H Latency: min = 0.1 ms, max = 0.1 ms, mean = 0.1 ms, median = 0.1 ms, percentile(90%) = 0.1 ms
[01/02/2030-03:04:09] [I] Total Host Walltime: 3.0 s
"""
TIMES = json.dumps([{"startH2dMs": 0.0, "computeMs": t - 0.1, "latencyMs": t, "somethingNew": 1} for t in (2.0, 2.5, 2.5, 4.0)])
LAYERS = json.dumps([{"count": 40}, {"name": "conv + relu", "timeMs": 40.0, "averageMs": 1.0, "percentage": 80.0},
                     {"name": "reformat", "timeMs": 0.0, "averageMs": 0.0, "percentage": 0.0}])  # fmt: skip
TEGRA = (
    "RAM 2448/7620MB SWAP 0/3810MB CPU [1%@729] EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407] GPU@49.5C tj@50C VDD_IN 4000mW/4100mW VDD_SOC 1200mW/1200mW\n"
    "RAM 2448/7620MB SWAP 0/3810MB CPU [1%@729] EMC_FREQ 1%@2133 GR3D_FREQ 99%@[407] GPU@51.5C tj@50C VDD_IN 6000mW/4200mW VDD_SOC 1400mW/1200mW\n"
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return flow.export(str(save(conv_net(), tmp_path / "net.onnx")), "tensorrt-kit", tmp_path / "kit")


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for name, text in (("log", LOG), ("times", TIMES), ("layers", LAYERS), ("tegra", TEGRA)):
        made[name] = tmp_path / f"main.{name}"
        made[name].write_text(text)
    return made


def test_each_text_is_known_by_its_content():
    log, times, layers, rails = (read(t, "f") for t in (LOG, TIMES, LAYERS, TEGRA))
    assert isinstance(log, Log) and log.rows["Latency"] == {"min": 2.0, "max": 4.0, "mean": 2.75, "median": 2.5, "p90": 3.55, "p99": 3.9}
    assert log.rows["GPU Compute Time"]["median"] == 2.4 and log.facts["throughput_qps"] == "321.5"
    assert isinstance(times, Times) and times.latency_ms == (2.0, 2.5, 2.5, 4.0) and times.compute_ms[0] == pytest.approx(1.9)
    assert isinstance(layers, Layers) and layers.runs == 40 and layers.average_ms == {"conv + relu": 1.0, "reformat": 0.0}
    assert layers.other["conv + relu"]["percentage"] == 80.0
    assert isinstance(rails, Rails) and rails.lines == 2 and rails.power_mw == {"VDD_IN": 5000, "VDD_SOC": 1300} and rails.highest_c["GPU"] == 51.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is neither a trtexec log"),
        ("hello\nworld", "is neither a trtexec log"),
        ("\x00\x01\x02", "is neither a trtexec log"),
        ("[{", "looks like JSON but is not"),
        ("[]", "holds no inferences"),
        ('[{"latencyMs": 1}, 3]', "holds no inferences"),
        ('[{"foo": 1}]', "has neither latencyMs"),
        ('[{"latencyMs": "fast"}]', "'fast', where milliseconds"),
        ('[{"latencyMs": -1}]', "-1, where milliseconds"),
        ('[{"latencyMs": 0}]', "0, where milliseconds"),
        ('[{"latencyMs": NaN}]', "nan, where milliseconds"),
        ('[{"latencyMs": true}]', "True, where milliseconds"),
        ("[x] Latency: min = 2 ms", "min and median are needed"),
        ("[x] Latency: min = nan ms, median = 2 ms", "where milliseconds"),
        ("[x] Latency: min = 3 ms, max = 4 ms, median = 2 ms", "not between min and max"),
        ("[x] GPU Compute Time: min = 3 ms, max = 4 ms, median = 3 ms", "no line 'Latency"),
    ],
)
def test_garbage_is_one_sentence(text, told):
    with pytest.raises(Broken, match="a file: ?") as error:
        read(text, "a file")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_log_alone_is_a_measurement_that_says_what_it_is(bundle: Bundle, texts: dict[str, Path]):
    found, name = import_measurement(bundle, [texts["log"]])
    assert name == "imported-main-made-up-board"
    assert (found.kind, found.device, found.runtime) == ("imported", "Made-up board", "trtexec, TensorRT 10.3.0")
    assert (found.latency_p50_ms, found.latency_p90_ms, found.latency_min_ms, found.samples, found.warm_up_runs) == (2.5, 3.55, 2.0, 4, 70)
    assert found.load_ms is None and found.memory_peak_mb is None and found.energy_mj is None and found.threads is None
    assert "not verified on that device" in found.reasons[0]
    stored = open_bundle(bundle.folder).read_evidence(name)
    assert stored is not None and stored.pop("imported")["sources"].keys() == {"main.log"}
    assert Measurement.from_json(stored) == found


def test_all_four_together_keep_layers_and_rails_but_no_energy_is_made_of_power(bundle: Bundle, texts: dict[str, Path]):
    found, name = import_measurement(bundle, list(texts.values()), device="Board, 15 W")
    assert found.latency_p90_ms == pytest.approx(3.55) and found.histogram is not None and sum(found.histogram.counts) + found.histogram.above == 4
    assert found.energy_mj is None and "power of whole rails" in found.energy_reason
    more = (bundle.read_evidence(name) or {})["imported"]
    assert more["times"]["latency_ms"] == [2.0, 2.5, 2.5, 4.0]
    assert more["rails"]["power_mw"]["VDD_IN"] == 5000 and more["layers"]["runs"] == 40 and len(more["sources"]) == 4


def test_a_noisy_run_is_called_so(bundle: Bundle, tmp_path: Path):
    (tmp_path / "t.json").write_text(json.dumps([{"latencyMs": t} for t in (1.0, 3.0, 3.0)]))
    found, _ = import_measurement(bundle, [tmp_path / "t.json"], device="x")
    assert found.verdict == "NOISY" and any("3.00 times the minimum" in r for r in found.reasons)


def test_what_does_not_fit_together_is_refused(bundle: Bundle, texts: dict[str, Path], tmp_path: Path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"latencyMs": 9.0}]))
    for files, arguments, told in (
        ([texts["layers"]], {"device": "x"}, "none of the files holds times"),
        ([texts["times"]], {}, "do not say on which device"),
        ([texts["log"], other], {}, "of different runs"),
        ([texts["times"], other], {"device": "x"}, "of the same kind"),
        ([tmp_path / "nowhere"], {}, "cannot read .*nowhere: No such file"),
        ([texts["log"]], {"graph": "step"}, "no graph 'step'; there are: main"),
    ):
        with pytest.raises(EdgekitError, match=told):
            import_measurement(bundle, files, **arguments)
    assert not (bundle.folder / "evidence").exists()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(EdgekitError, match="is no text"):
        import_measurement(bundle, [tmp_path / "bytes"])
    plain = open_bundle(tmp_path / "kit.onnx-f32")
    with pytest.raises(EdgekitError, match="holds onnx:f32, but trtexec times TensorRT plans"):
        import_measurement(plain, [texts["log"]])


def test_the_command_prints_one_json_document_and_no_traceback(bundle: Bundle, texts: dict[str, Path]):
    def edgekit(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgekit", "import-measurement", *map(str, arguments), "--bundle", str(bundle.folder)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)

    done = edgekit(texts["log"], texts["times"], "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["kind"] == "imported"
    assert "imported, VALID" in edgekit(texts["log"]).stdout
    done = edgekit(bundle.folder / "bundle.json")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_the_report_shows_it_apart_from_times_made_here(tmp_path: Path):
    """A table of its own, with the device; what the tool did not say is a dash."""
    from edgekit.report import tables, words
    from edgekit.report.data import BundleRow, Run

    elsewhere = Measurement(
        runtime="trtexec", device="Orin Nano, 15 W", threads=None, pinned=None, load_ms=None, first_run_ms=None, warm_up_runs=None,
        latency_p50_ms=1.5, latency_p90_ms=None, latency_min_ms=1.4, samples=0, preempted_samples=None, latency_undisturbed_p50_ms=None,
        memory_peak_mb=None, verdict="VALID", reasons=("measured elsewhere",), kind="imported",
    )  # fmt: skip
    bundle = BundleRow("tensorrt-kit:f32", "tensorrt", "f32", "b", 10, "0" * 64, (), (), (), (elsewhere,))
    run = Run("r", "own model", "accuracy", 0, (), (bundle,), {}, {}, ())
    assert Run.from_json(run.to_json()) == run
    table = next(t for t in tables.all_tables(run) if t.title == "Times from other devices")
    assert [c.text for c in table.rows[0]] == ["tensorrt-kit:f32", "Orin Nano, 15 W", "trtexec", "1.50", "-", "1.40", "-", "VALID"]
    assert any("Orin Nano, 15 W: measured elsewhere" in note for note in words.notes(run))
    assert not any(t.title == "Time and memory" for t in tables.all_tables(run))
