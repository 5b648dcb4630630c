"""The report: the same numbers in the terminal, in JSON and on a page that holds no script and asks nobody for anything."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgekit import report
from edgekit.errors import Broken, Missing
from edgekit.estimate import Estimate
from edgekit.measurement import Measurement
from edgekit.report import numbers, tables, words
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow

LAYERS = ("conv1", "conv2", "conv3", "fc1")
DEVICE = "AMD EPYC 9B14, 2 cores"


def estimate(profile: str, low: float | None, mid: float | None, high: float | None, memory: bool, reason: str = "") -> Estimate:
    return Estimate(
        profile=profile, label=f"{profile}, in words", grade="derived", source="A paper, 2014", energy_nj_low=low, energy_nj=mid,
        energy_nj_high=high, includes_memory=memory, operations={"samples": 256, "acs": 12_345_678},
        unpriced=("clock and static power",), spread="low: the best case; high: the worst case", reason=reason,
    )  # fmt: skip


def horowitz(nj: float, name: str = "horowitz45-fp32") -> tuple[Estimate, ...]:
    return (
        estimate(name, 0.7 * nj, nj, 1.9 * nj, False),
        estimate(name, 4.1 * nj, 8.3 * nj, 10.9 * nj, True),
    )


def training_rows() -> tuple[TrainingRow, ...]:
    ann = TrainingRow("ANN", "ann", None, 0.978, 0.981, 30, 412.0, {}, horowitz(5120.0))
    rows = [ann]
    for steps, score in ((5, 0.969), (4, 0.9672), (3, 0.9651), (2, 0.9634), (1, 0.961)):
        spikes = {name: round((0.31 - 0.055 * i) * (0.4 + 0.24 * steps), 4) for i, name in enumerate(LAYERS)}
        rows.append(TrainingRow(f"T={steps}", "stage", steps, score, score + 0.002, 12, 155.0 * steps, spikes, horowitz(310.0 * steps)))
    spikes = {"conv1": 0.22, "conv2": 0.12, "conv3": 0.05, "fc1": 0.02}
    rows.append(TrainingRow("T=1 converted, not retrained", "control", 1, 0.62, 0.618, 0, 0.0, spikes, horowitz(288.0)))
    rows.append(TrainingRow("T=1 trained directly from the ANN", "control", 1, 0.964, 0.966, 60, 780.0, spikes, horowitz(305.0)))
    return tuple(rows)


def timing(runtime: str, p50: float, threads: int, **other: Any) -> Measurement:
    facts: dict[str, Any] = {
        "runtime": runtime, "device": DEVICE, "threads": threads, "pinned": threads == 1, "load_ms": 41.3, "first_run_ms": 3.2 * p50,
        "warm_up_runs": 60, "latency_p50_ms": p50, "latency_p90_ms": 1.18 * p50, "latency_min_ms": 0.93 * p50, "samples": 4821,
        "preempted_samples": 12, "latency_undisturbed_p50_ms": p50, "memory_peak_mb": 161.2, "verdict": "VALID",
        "energy_reason": "no meter: needs read access to the RAPL counters", "samples_ms": (p50, 0.93 * p50),
    }  # fmt: skip
    return Measurement(**(facts | other))


def check(runtime: str, **other: Any) -> VerificationRow:
    facts: dict[str, Any] = {
        "runtime": runtime, "passed": True, "output_max_abs": 2.1e-6, "output_mean_abs": 3.4e-7, "spike_flips": 0,
        "spike_flips_near": 0, "spikes_compared": 1_254_400, "exact_mismatches": None, "score": 0.961, "score_reference": 0.961,
        "score_samples": 10_000, "failures": (), "note": "",
    }  # fmt: skip
    return VerificationRow(**(facts | other))


def bundle_rows() -> tuple[BundleRow, ...]:
    ort, vino, ref = "onnxruntime 1.27.0", "openvino 2026.1.0", "nir_reference 0.1.0"
    lava = "lava-nc 0.10.0 with lava-dl 0.6.0"
    simulated = {"verdict": "SIMULATED", "reasons": ("wall time of a simulator of Loihi 2 fixed point on this CPU",), "samples": 2}
    integers = {"spike_flips": None, "spike_flips_near": None, "exact_mismatches": 0, "output_max_abs": 0.213, "score": 0.9588}

    def row(label: str, bytes_total: int, checks: Any, timings: Any, prices: Any) -> BundleRow:
        fmt, precision = label.split(":")
        return BundleRow(label, fmt, precision, f"bundles/{fmt}-{precision}", bytes_total, "5e" * 32, checks, timings, prices)

    noisy = {"verdict": "NOISY", "reasons": ("p50 is 1.84 times the minimum (limit 1.5)",)}
    loihi = (
        estimate("loihi1-davies2018", 8120.0, 9240.0, 15410.0, True),
        estimate("loihi1-sanafe", 7900.0, 11020.0, 12200.0, True),
        estimate("loihi2", None, None, None, True, "no energy per operation was published for Loihi 2"),
    )
    return (
        row("onnx:f32", 2_482_113, (check(ort),), (timing(ort, 0.412, 1), timing(ort, 0.263, 0, **noisy)), horowitz(5100.0)),
        row("openvino:f32", 2_513_870, (check(vino, output_max_abs=4.4e-6, spike_flips=2, spike_flips_near=2),),
            (timing(vino, 0.371, 1), timing(vino, 0.224, 0)), horowitz(5100.0)),
        row("nir:f32", 2_460_012, (check(ref), check(ort)), (timing(ref, 12.4, 1, memory_peak_mb=88.0),), horowitz(5100.0)),
        row("nir:int8", 641_220, (check(ref, **integers),), (timing(ref, 14.9, 1, memory_peak_mb=71.4),),
            horowitz(19.0, "horowitz45-int8")),
        row("lava:int8", 655_004, (check(lava, **integers, score_samples=200, note="score over the first 200 of 10000 samples, not compared"),),
            (timing(lava, 318.0, 1, memory_peak_mb=402.0, **simulated),), (*horowitz(19.0, "horowitz45-int8"), *loihi)),
    )  # fmt: skip


def sample_run(**other: Any) -> Run:
    """A run with everything in it: all roles, engines that show no spikes, a simulator, a noisy timing, no price for Loihi 2."""
    facts: dict[str, Any] = {
        "name": "iir_snn_mnist", "family": "iir_snn", "score_name": "accuracy", "test_samples": 10_000,
        "training": training_rows(), "bundles": bundle_rows(),
        "machine": {"system": "Linux-6.1-x86_64", "python": "3.11.7", "cores": "2"},
        "versions": {"torch": "2.13.0", "onnx": "1.22.0", "openvino": "2026.1.0"},
        "notes": ("runtime 'tensorrt' was not used: needs tensorrt",),
    }  # fmt: skip
    return Run(**(facts | other))


HOSTILE = ("</script><script>document.title='taken'</script>", '"><img src=x onerror="document.title=1">', "</style><svg onload=alert(1)>")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            if name in ("href", "src", "xlink:href") and value != "data:,":  # the empty icon: asks for nothing
                raise AssertionError(f"{tag} asks for {value}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> _Tags:
    tags = _Tags()
    tags.feed(html)
    return tags


def test_the_page_holds_every_row_and_plot_and_asks_for_nothing() -> None:
    html = report.page(sample_run())
    tags = parsed(html)
    assert len(html) < 1_500_000
    assert not tags.tags & {"script", "img", "iframe", "object", "foreignobject", "image", "use"}
    assert not {a for a in tags.attributes if a.startswith("on")}
    assert len(re.findall("<figure[ >]", html)) == 4
    text = " ".join(tags.text)
    for row in (*training_rows(), *bundle_rows()):
        assert row.label in text
    assert "no energy per operation was published for Loihi 2" in text
    assert re.search(r'Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;sha256-', html)
    assert "unsafe" not in html


def test_estimates_stand_in_tables_of_their_own_and_are_marked() -> None:
    kinds = {t.kind: t for t in tables.all_tables(sample_run())}
    assert set(kinds) == {"counted", "compared", "measured", "estimate"}
    measured = " ".join(c.text for row in kinds["measured"].rows for c in row)
    assert "~" not in measured and "J" not in measured
    for table in tables.all_tables(sample_run()):
        if table.kind == "estimate":
            values = [c.text for row in table.rows for c in row[1:] if c.text != "-"]
            assert all(v.startswith("~") or "–" in v or v[0].isdigit() for v in values)


def hostile_run() -> Run:
    """Every name of a run is an attempt to break out of the page."""
    rows = tuple(dataclasses.replace(r, label=h) for r, h in zip(training_rows()[-3:], HOSTILE, strict=True))
    bundle = dataclasses.replace(bundle_rows()[0], label=HOSTILE[0], folder=HOSTILE[1])
    layers = dataclasses.replace(training_rows()[5], spikes_per_neuron={h: 0.1 for h in HOSTILE})
    training, machine = (*training_rows()[:3], layers, *rows), {HOSTILE[0]: HOSTILE[2]}
    return sample_run(name=HOSTILE[1], training=training, bundles=(bundle,), notes=HOSTILE, machine=machine)


def test_hostile_names_are_text() -> None:
    html = report.page(hostile_run())
    tags = parsed(html)
    assert not tags.tags & {"script", "img"}
    assert not {a for a in tags.attributes if a.startswith("on")}
    assert "document.title='taken'" in " ".join(tags.text)  # it is there, to be read


def test_a_name_cannot_steer_the_terminal() -> None:
    row = dataclasses.replace(training_rows()[0], label="\x1b[2Jgone [red]x[/red]\r\u202e")
    out = io.StringIO()
    report.show(sample_run(name="a\nb", training=(row,), notes=("\x07bell [/bold]",)), Console(file=out, width=120))
    text = out.getvalue()
    assert not set(text) & set("\x1b\x07\r\u202e")
    assert "\\x1b[2Jgone [red]x[/red]" in text and "\\x07bell [/bold]" in text and "a\\nb" in text


def test_a_missing_number_is_a_dash_and_the_notes_say_why() -> None:
    run = sample_run()
    by_title = {t.title: t for t in tables.all_tables(run)}
    notes = " ".join(words.notes(run))
    lava = next(r for r in by_title["Same answers?"].rows if r[0].text == "lava:int8")
    assert lava[5].text == "-" and "lava:int8 on lava-nc: no flips, its integers are compared instead" in notes
    assert {row[-1].text for row in by_title["Time and memory"].rows} == {"-"} and "energy was not measured: no meter" in notes
    loihi2 = by_title["Energy estimate: loihi2"]
    assert [c.text for c in loihi2.rows[0]] == ["lava:int8", "-", "-"] and "no energy estimate by loihi2" in notes
    assert by_title["Training"].rows[0][5].text == "-" and "ANN: no spikes" in notes


def test_a_simulated_time_is_never_the_fastest() -> None:
    fast = timing("lava-nc 0.10.0", 0.001, 1, verdict="SIMULATED", reasons=("a simulator",))
    slow = dataclasses.replace(bundle_rows()[0], measurements=(timing("onnxruntime 1.27.0", 0.4, 1),))
    run = sample_run(bundles=(slow, dataclasses.replace(bundle_rows()[4], measurements=(fast,))))
    assert "Fastest on one thread: onnx:f32" in " ".join(words.verdict(run))
    only = sample_run(bundles=(dataclasses.replace(bundle_rows()[4], measurements=(fast,)),))
    assert "No latency was measured" in " ".join(words.verdict(only))


def test_estimates_whose_ranges_overlap_are_not_ranked() -> None:
    ann, last = training_rows()[0], training_rows()[5]
    near = dataclasses.replace(last, estimates=horowitz(4000.0))
    assert "the ranges do not overlap" in " ".join(words.verdict(sample_run(training=(ann, last))))
    assert "neither is called cheaper" in " ".join(words.verdict(sample_run(training=(ann, near))))


def test_the_terminal_holds_every_row_in_eighty_columns() -> None:
    out = io.StringIO()
    report.show(sample_run(), Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for row in training_rows():
        assert row.label.split(",")[0] in text
    for label in ("onnx:f32", "openvino:f32", "nir:int8", "lava:int8"):
        assert label in text
    assert "simulated" in text.lower() and "ESTIMATE" in text


def test_json_goes_round_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    report.write(sample_run(), tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert Run.from_json(data) == sample_run()
    with pytest.raises(Broken, match="surprise"):
        Run.from_json({**data, "surprise": 1})
    assert {p.name for p in tmp_path.iterdir()} == {"report.json", "page.html"}


def test_the_verdict_follows_from_the_rows() -> None:
    said = " ".join(words.verdict(sample_run()))
    assert "96.10 %" in said and "0.80 points below T=5" in said  # 10,000 samples carry two decimals
    wrong = dataclasses.replace(bundle_rows()[0], verifications=(check("onnxruntime 1", passed=False, failures=("moved",)),))
    assert "all" not in " ".join(words.verdict(sample_run(bundles=(wrong,)))).split("checks")[0].split("answers in ")[-1]


def test_numbers_are_rounded_and_missing_ones_are_dashes() -> None:
    assert numbers.significant(None) == "-"
    assert numbers.significant(0.012345) == "0.0123"
    assert [numbers.difference(v) for v in (None, 0.0, 1.23e-7, 0.213, 3.2)] == ["-", "0", "1.2e-07", "0.21", "3.2"]


def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "altair" else real(name, *a))
    with pytest.raises(Missing, match=r"altair, not installed here: pip install 'edgekit\[report\]'"):
        report.page(sample_run())


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for so far) of a local server."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            asked.append(self.path)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def browse(url: str, profile: Path) -> tuple[str, list[str]]:
    """(the document after its scripts ran, what the console complained of)."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", "--dump-dom", url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_real_browser_nothing_overflows(width: int, tmp_path: Path) -> None:
    """The page in an iframe of exactly this width; the frame's outer page measures it and writes what it found."""
    long = dataclasses.replace(training_rows()[5], label="a_label_without_a_break_" * 12)
    (tmp_path / "page.html").write_text(report.page(sample_run(name="n" * 200, training=(*training_rows()[:5], long))))
    (tmp_path / "outer.html").write_text(
        f"<body><iframe id=f src=page.html width={width} height=900 style='border:0'></iframe><pre id=o></pre><script>"
        "onload=()=>{const d=f.contentDocument,w=[...d.querySelectorAll('.drawing svg')].map(s=>s.getBoundingClientRect().width);"
        "o.textContent='widest='+d.documentElement.scrollWidth+' svgs='+w.length+' narrowest='+Math.floor(Math.min(...w))"
        "+' background='+getComputedStyle(d.querySelector('figure')).backgroundColor}</script>"
    )
    with served(tmp_path) as (address, _):
        document, complaints = browse(f"{address}/outer.html", tmp_path / "profile")
    found = re.search(r"widest=(\d+) svgs=(\d+) narrowest=(\d+) background=(rgb\([^)]*\))", document)
    assert found is not None, document[-500:]
    assert int(found[1]) <= width
    assert int(found[2]) >= 4
    assert int(found[3]) >= 330  # drawn for 380: text keeps 10 of its 12 pixels
    assert found[4] == "rgb(255, 255, 255)"  # the style sheet was let through by its hash
    assert not complaints


def test_in_a_real_browser_hostile_names_do_nothing_and_nothing_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(report.page(hostile_run()))
    with served(tmp_path) as (address, asked):
        document, complaints = browse(f"{address}/page.html", tmp_path / "profile")
        assert asked == ["/page.html"]
        assert not complaints
        title = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
        assert title and title[1].startswith('"&gt;&lt;img src=x') and title[1].endswith("- edgekit")


def test_the_policy_holds_even_if_a_name_were_not_escaped(tmp_path: Path) -> None:
    """The same markup planted behind the template: the policy stops it; without the policy the watch above sees it."""
    planted = report.page(sample_run()).replace("<main>", "<main><img src=planted.png><script>document.title='taken'</script>")
    bare = re.sub(r"<meta http-equiv[^>]*>", "", planted)
    (tmp_path / "planted.html").write_text(planted)
    (tmp_path / "bare.html").write_text(bare)
    with served(tmp_path) as (address, asked):
        document, complaints = browse(f"{address}/planted.html", tmp_path / "first")
        assert asked == ["/planted.html"] and "<title>taken" not in document
        assert len(complaints) >= 2
        document, _ = browse(f"{address}/bare.html", tmp_path / "second")
        assert "/planted.png" in asked and "<title>taken" in document
