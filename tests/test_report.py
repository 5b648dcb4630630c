"""The report: the same numbers in the terminal, in JSON and on a page that asks nobody for anything."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_fixture import (
    bundle_rows,
    check,
    horowitz,
    hostile_run,
    metered,
    picture,
    sample_run,
    simulated,
    sweep_run,
    timing,
    training_rows,
)
from rich.console import Console

from edgekit import picture_grid, report
from edgekit.errors import Broken, Missing
from edgekit.layer_profile import Layer
from edgekit.report import numbers, tables, words
from edgekit.report.data import FamilyTable, Picture, Run, TrainingRow


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
            if name in ("href", "src", "xlink:href") and not (value or "").startswith(("#", "data:,", "data:image/png;base64,")):  # these ask for nothing
                raise AssertionError(f"{tag} asks for {value}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> _Tags:
    tags = _Tags()
    tags.feed(html)
    return tags


def test_the_page_holds_every_row_and_plot_and_asks_for_nothing() -> None:
    run = everything()
    html = report.page(run)
    tags = parsed(html)
    assert len(html.encode()) < 1_500_000
    assert not tags.tags & {"img", "iframe", "object", "foreignobject", "image", "use"}
    assert not {a for a in tags.attributes if a.startswith("on")} and "style" not in tags.attributes
    titles = re.findall("<figcaption><h2>(.*?)</h2>", html)
    assert titles == [
        "Accuracy by timesteps", "Spikes per neuron, by layer and timesteps", "Latency by bundle", "Layers under the roof", "Power over time",
        "Energy, estimated", "Latency, sample by sample", "The machine meanwhile",
    ]  # fmt: skip
    text = " ".join(tags.text)
    for row in (*run.training, *run.bundles, *run.bundles[0].layers[0].layers):
        assert (row.name if isinstance(row, Layer) else row.label) in text
    assert "no energy per operation was published for Loihi 2" in text


def test_the_policy_names_each_script_and_style_by_its_hash_and_nothing_else() -> None:
    html = report.page(sample_run())
    found = re.search('Content-Security-Policy" content="(.*?)"', html)
    assert found is not None
    policy = dict(part.strip().split(" ", 1) for part in found[1].replace("&#39;", "'").split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": " ".join(hashed(x) for x in re.findall("<script>(.*?)</script>", html, re.DOTALL)),
        "style-src": " ".join(hashed(x) for x in re.findall("<style>(.*?)</style>", html, re.DOTALL)), "img-src": "data:",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert policy["script-src"].count("sha256-") == 2 and len(re.findall("<script[ >]", html)) == 3  # the third is data


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def everything() -> Run:
    """The sample, and a meter."""
    first, *others = bundle_rows()
    with_meter = dataclasses.replace(first.measurements[0], **metered(0.41))
    return sample_run(bundles=(dataclasses.replace(first, measurements=(with_meter, *first.measurements[1:])), *others))


def test_a_run_of_training_alone_has_a_page_without_the_drawing_library() -> None:
    html = report.page(sample_run(bundles=()))
    assert len(html) < 150_000 and "vegaEmbed" not in html.split("<body>")[0] and html.count("<script>") == 1
    assert "Accuracy by timesteps" in html and "Quality against cost" not in html


def test_estimates_stand_in_tables_of_their_own_and_are_marked() -> None:
    found = tables.all_tables(everything())
    assert {t.kind for t in found} == {"counted", "compared", "measured", "estimate", "mixed"}
    for table in found:
        numbers_of = [c.text for row in table.rows for c, column in zip(row, table.columns, strict=True) if not column.is_text and c.text != "-"]
        if table.kind == "measured":
            assert not any("~" in v for v in numbers_of)
        if table.kind == "estimate":
            assert all(v.startswith("~") or "–" in v or v[0].isdigit() for v in numbers_of)


def test_where_nothing_was_metered_the_energy_says_estimate_in_terminal_json_and_page() -> None:
    run, out = sample_run(), io.StringIO()
    report.show(run, Console(file=out, width=80))
    assert len(re.findall(r"~[\d.e-]+ mJ \(estimate\)", out.getvalue())) == sum(c.energy_mj is not None for c in run.candidates) > 0
    kinds = {c["energy_mj"]["kind"] for c in json.loads(json.dumps(run.to_json()))["candidates"] if c["energy_mj"]}
    assert kinds == {"spec-estimate"}
    text = " ".join(parsed(report.page(run)).text)
    assert re.search(r"~[\d.e-]+ mJ \(estimate\)", text) and "No energy was measured: what is given is an estimate." in text
    metered_text = " ".join(c.text for t in tables.all_tables(everything()) if t.title == "Energy of one inference" for c in t.rows[0])
    assert "3.28 mJ (measured)" in metered_text and "module input VDD_IN" in metered_text


def test_hostile_names_are_text() -> None:
    run = hostile_run()
    html = report.page(run)
    tags = parsed(html)
    assert len(re.findall("<script[ >]", html, re.IGNORECASE)) == 3 and html.count('<img src="data:') == len(run.pictures)
    assert not {a for a in tags.attributes if a.startswith("on")}
    assert "document.title='taken'" in " ".join(tags.text)  # it is there, to be read
    assert not set(html) & set("\0\x1b\u202e\ud800") and "\\x1b[2J" in html
    assert "characters cut, sha256" in html and "long" * 200 not in html
    data = json.loads(re.search('<script type="application/json" id="choice-data">(.*?)</script>', html, re.DOTALL)[1])
    assert len(data["rows"]) == len(hostile_run().candidates) > 3


def test_hostile_names_are_written_whole_to_json_and_harmless_to_markdown_and_trace(tmp_path: Path) -> None:
    report.write(hostile_run(), tmp_path)
    assert Run.from_json(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))) == hostile_run()
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not set(text) & set("\0\x1b\u202e") and "[link](" not in text and "https://" not in text
    assert not re.search(r"(?<!\\)<", text)
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 10, line  # nine columns, whatever the names hold
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


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
    assert "energy was not measured: no meter" in notes
    simulated_row = next(r for r in by_title["Time and memory"].rows if r[0].text == "lava:int8")
    assert simulated_row[4].text == "-"  # two batches in one process have no interval between processes
    loihi2 = by_title["Energy estimate: loihi2"]
    assert [c.text for c in loihi2.rows[0]] == ["lava:int8", "-", "-"] and "no energy estimate by loihi2" in notes
    assert by_title["Training"].rows[0][5].text == "-" and "ANN: no spikes" in notes


def test_a_simulated_time_is_never_the_fastest() -> None:
    fast = simulated("lava-nc 0.10.0", 0.001)
    slow = dataclasses.replace(bundle_rows()[0], measurements=(timing("onnxruntime 1.27.0", 0.4, 1),), device_estimates=())
    run = sample_run(bundles=(slow, dataclasses.replace(bundle_rows()[4], measurements=(fast,))))
    assert "by latency: onnx:f32" in " ".join(words.verdict(run))
    assert "Fastest on one thread: onnx:f32" in " ".join(words.verdict(dataclasses.replace(run, candidates=())))
    only = sample_run(bundles=(dataclasses.replace(bundle_rows()[4], measurements=(fast,)),), candidates=())
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
    assert "not estimable" in text and "0.410–0.412" in text  # p99.9 of 4,821 samples; the interval of p50 between processes
    for row in training_rows():
        assert row.label.split(",")[0] in text
    for label in ("onnx:f32", "openvino:f32", "nir:int8", "lava:int8"):
        assert label in text
    assert "simulated" in text.lower() and "ESTIMATE" in text


@pytest.mark.parametrize("verdict", ["NOISY", "THROTTLED", "TOO-SHORT"])
def test_a_figure_in_doubt_carries_its_verdict_wherever_it_stands(verdict: str) -> None:
    short = {"latency_p50_ms": 0.4, "reasons": ("the reason",), "samples": 8, "percentiles": ()}
    doubtful = timing("onnxruntime 1.32.0", 0.4, 1, verdict=verdict, **short)
    run = sample_run(bundles=(dataclasses.replace(bundle_rows()[0], measurements=(doubtful,), device_estimates=()),))
    out = io.StringIO()
    report.show(run, Console(file=out, width=80))
    assert f"0.400 {verdict}" in out.getvalue() and f"{verdict}, the reason" in " ".join(out.getvalue().split())
    assert f"{verdict}: onnx:f32" in " ".join(words.verdict(run)) and f"0.400 ms (measured, {verdict})" in words.verdict(run)[0]
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert f'>0.400 {verdict}<' in report.page(run)


def test_a_sweep_of_ninety_fits_eighty_columns_and_says_that_there_are_more_rows() -> None:
    out = io.StringIO()
    report.show(sweep_run(), Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "and 30 more rows" in out.getvalue()


def family_run() -> Run:
    """A family with a model and a baseline, neither of which spikes, and a table of its own."""
    row = {"steps": None, "validation": 0.41, "epochs": 9, "seconds": 14.0, "spikes_per_neuron": {}, "estimates": ()}
    table = FamilyTable("Against the paper", ("network", "MSE", "seeds", "published"), (("TPGN", 0.1063, 5, 0.1061), ("LSTM", 0.1085, 5, None)), "mean of 5")
    rows = (TrainingRow("TPGN", "model", score=0.356, **row), TrainingRow("LSTM", "baseline", score=0.342, **row))
    return sample_run(score_name="skill", training=rows, bundles=(), family_tables=(table,))


def test_a_familys_own_table_stands_where_all_tables_stand_and_nothing_is_said_of_spikes(tmp_path: Path) -> None:
    run = family_run()
    report.write(run, tmp_path)
    assert Run.from_json(json.loads((tmp_path / "report.json").read_text())) == run
    out = io.StringIO()
    report.show(run, Console(file=out, width=80))
    for text in (out.getvalue(), (tmp_path / "page.html").read_text(), (tmp_path / "report.md").read_text()):
        assert all(said in text for said in ("Against the paper", "0.1063", "published", "mean of 5"))
        assert "spikes" not in text.partition("<style")[0] + text.rpartition("</style>")[2]
    assert "TPGN reaches 0.3560 skill; LSTM 0.3420" in " ".join(words.verdict(run))


def test_a_familys_pictures_stand_on_the_page_and_beside_the_markdown(tmp_path: Path) -> None:
    drawn = (picture("Four calls", caption="500 pictures, * of 3 seeds"), picture("One call", 1, 8))
    run = sample_run(pictures=drawn)
    report.write(run, tmp_path)
    assert Run.from_json(json.loads((tmp_path / "report.json").read_text())) == run
    html, text, out = (tmp_path / "page.html").read_text(), (tmp_path / "report.md").read_text(), io.StringIO()
    assert [base64.b64decode(p) for p in re.findall(r'<img src="data:image/png;base64,([^"]+)" width="662"', html)] == [p.content() for p in drawn]
    parsed(html)
    assert "![Four calls](four-calls.png)" in text and r"500 pictures, \* of 3 seeds" in text and "![" not in report.as_markdown(run)
    assert [(tmp_path / p.file).read_bytes() for p in drawn] == [p.content() for p in drawn]
    report.show(run, Console(file=out, width=80))
    assert "on the page, and in train/four-calls.png" in " ".join(out.getvalue().split())


def test_pictures_that_a_page_has_no_room_for_are_named_in_a_note() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    large = base64.b64encode(picture_grid.as_png(noise)).decode()
    run = sample_run(bundles=(), pictures=tuple(Picture(f"noise {i}", f"n{i}.png", "", large) for i in range(5)))
    html = report.page(run)
    assert html.count('<img src="data:') == 2 and "3 of 5 pictures are not on this page" in html and len(html) < 600_000


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [("../x.png", b"", "plain name"), (".x.png", b"", "plain name"), ("x.svg", b"", "plain name"), ("x.png", b"<svg>", "no PNG"),
     ("x.png", b"\x89PNG" * 50_000, "larger than 150,000 bytes"), ("none.png", None, "cannot be read"), (7, b"", "must be str")],
)  # fmt: skip
def test_a_picture_that_is_none_is_refused(tmp_path: Path, file: object, content: bytes | None, says: str) -> None:
    if content:
        (tmp_path / str(file)).write_bytes(content)
    with pytest.raises(Broken, match=says):
        Picture.read({"title": "t", "file": file, "caption": ""}, tmp_path)


def test_a_row_that_does_not_fit_its_table_is_refused() -> None:
    with pytest.raises(Broken, match="2 columns and a row of 1"):
        FamilyTable.from_json({"title": "t", "columns": ["a", "b"], "rows": [[1]], "caption": ""})


def test_json_goes_round_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    report.write(sample_run(), tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert Run.from_json(data) == sample_run()
    with pytest.raises(Broken, match="surprise"):
        Run.from_json({**data, "surprise": 1})
    assert {p.name for p in tmp_path.iterdir()} == {"report.json", "report.md", "trace.json", "page.html"}


def test_a_number_that_is_not_finite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    odd = dataclasses.replace(bundle_rows()[0], measurements=(timing("onnxruntime 1", 0.4, 1, load_ms=float("nan")),))
    with pytest.raises(Broken, match="not finite"):
        report.write(sample_run(bundles=(odd,)), tmp_path)
    assert not list(tmp_path.iterdir())


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
