"""The page in a real browser: it draws, sorts and filters, at the widths of a phone and a desk, and neither fails nor asks for anything."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser
from report_fixture import HOSTILE, bundle_rows, hostile_run, metered, picture, sample_run, sweep_run, training_rows

from edgekit import report
from edgekit.candidate import Candidate, front
from edgekit.report import choice
from edgekit.report.data import Run

MARKS = "[...document.querySelectorAll('#live path[data-i]')]"
NAMES = "#candidates tbody tr:not([hidden]) th"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each sort, made once."""
    first, *others = bundle_rows()
    with_meter = dataclasses.replace(first, measurements=(dataclasses.replace(first.measurements[0], **metered(0.41)), *first.measurements[1:]))
    long = dataclasses.replace(training_rows()[5], label="a_label_without_a_break_" * 12)
    runs = {
        "deploy": sample_run(bundles=(with_meter, *others)), "sweep": sweep_run(), "hostile": hostile_run(), "training": sample_run(bundles=()),
        "pictures": sample_run(pictures=(picture("Four calls"), picture("One call", 1, 8, 20), picture("Prior", count=4))),
        "long": sample_run(name="n" * 200, training=(*training_rows()[:5], long)), "large": sweep_run(copies=3),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("pages")
    for name, run in runs.items():
        (folder / f"{name}.html").write_text(report.page(run), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in runs}


def asked(chromium: Browser) -> list[str]:
    """What was loaded; a picture inside the page asks for nothing."""
    return [address for address in chromium.asked if not address.startswith("data:image/png;base64,")]


def drawn(chromium: Browser) -> list[dict[str, Any]]:
    """Every mark of a candidate in the plot: its name, and whether it is on the front."""
    return list(chromium.value(
        f"{MARKS}.map(p => ({{name: p.getAttribute('aria-label').split('\\n')[0], front: Number(p.getAttribute('opacity') ?? 1) === 1, "
        "filled: p.getAttribute('fill') === p.getAttribute('stroke'), shape: p.getAttribute('d')}))"
    ))  # fmt: skip


def names_of(candidates: list[Candidate], run: Run) -> set[str]:
    short = choice.short_names(run.candidates)
    return {short[c.name] for c in candidates}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["deploy", "sweep", "hostile", "training", "long", "pictures"])
def test_it_shows_without_an_error_a_request_or_an_overflow(chromium: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    chromium.show(pages[name], width, dark=dark)
    chromium.settled()
    assert chromium.complaints == []
    assert asked(chromium) == [pages[name].absolute().as_uri()]
    assert chromium.value("document.documentElement.scrollWidth") <= width
    narrowest = chromium.value(
        "Math.min(...[...document.querySelectorAll('.drawing > svg, .live svg')].filter(s => s.checkVisibility()).map(s => s.getBoundingClientRect().width))"
    )
    assert narrowest >= 330  # drawn for 380: text keeps 10 of its 12 pixels
    card = chromium.value("getComputedStyle(document.querySelector('figure, section.table')).backgroundColor")
    assert card == ("rgb(23, 27, 34)" if dark else "rgb(255, 255, 255)")  # the style sheet was let through by its hash


def test_pictures_are_drawn_whole_at_their_own_size_or_the_width_there_is(chromium: Browser, pages: dict[str, Path]) -> None:
    for width in (1280, 390):
        chromium.show(pages["pictures"], width)
        chromium.settled()
        found = chromium.value(
            "[...document.querySelectorAll('.picture img')].map(i => ({own: [i.naturalWidth, i.naturalHeight], width: i.getBoundingClientRect().width, height: i.getBoundingClientRect().height, "
            "whole: i.complete, room: i.parentElement.querySelector('.caption').clientWidth}))"
        )
        assert [f["own"] for f in found] == [[662, 200], [662, 134], [266, 68]] and all(f["whole"] for f in found)
        for f in found:
            assert f["width"] == pytest.approx(min(f["own"][0], f["room"]), abs=1)
            assert f["width"] / f["height"] == pytest.approx(f["own"][0] / f["own"][1], rel=0.02)


@pytest.mark.parametrize("name", ["deploy", "sweep"])
def test_no_text_of_a_plot_lies_outside_it(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    for width in (390, 1280):
        chromium.show(pages[name], width)
        outside = chromium.value(
            "[...document.querySelectorAll('.drawing svg')].filter(s => s.checkVisibility()).flatMap(s => { const b = s.getBoundingClientRect();"
            " return [...s.querySelectorAll('text')].filter(t => t.textContent && Number(t.getAttribute('opacity') ?? 1)).filter(t => {"
            " const r = t.getBoundingClientRect(); return r.left < b.left - 2 || r.right > b.right + 2 || r.top < b.top - 2 || r.bottom > b.bottom + 2 })"
            ".map(t => t.textContent) })"
        )
        assert outside == []


def test_names_beside_the_front_do_not_lie_on_each_other(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["sweep"], 1280)
    boxes = chromium.value(
        "[...document.querySelectorAll('#live .mark-text text')].filter(t => t.textContent && t.getAttribute('stroke') === null)"
        ".map(t => t.getBoundingClientRect()).map(r => [r.left, r.right, r.top, r.bottom])"
    )
    boxes = [b for b in boxes if b[1] - b[0] > 60]  # not those of the axes
    assert len(boxes) >= 4
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] + 1 or b[3] <= a[2] + 1


def test_each_candidate_with_a_cost_is_a_mark_and_the_front_is_that_of_the_core(chromium: Browser, pages: dict[str, Path]) -> None:
    run = sweep_run()
    chromium.show(pages["sweep"], 1280)
    for cost, press in (("latency_ms", "latency"), ("energy_mj", "energy")):
        chromium.click(".switch label", press)
        marks = drawn(chromium)
        real = [c for c in run.candidates if cost == "energy_mj" or c.verdict != "SIMULATED"]
        assert {m["name"] for m in marks} == names_of(real, run) and len(marks) == len(real) == {"latency_ms": 75, "energy_mj": 90}[cost]
        assert {m["name"] for m in marks if m["front"]} == names_of(front(real, cost), run)
        for m in marks:
            c = next(c for c in real if names_of([c], run) == {m["name"]})
            assert m["filled"] == (not getattr(c, cost).estimated)
    assert not chromium.complaints


def test_the_front_joins_the_best_quality_up_to_each_cost(chromium: Browser, pages: dict[str, Path]) -> None:
    """The stairs that are drawn, read back in pixels, against the marks that they must pass through."""
    chromium.show(pages["sweep"], 1280)
    chromium.click("#controls button", "host")
    run = sweep_run()
    mine = [c for c in run.candidates if c.target == "host" and c.latency_ms]
    best, stairs = -1.0, []
    for c in front(mine, "latency_ms"):
        if c.quality is not None and c.quality > best:
            best, stairs = c.quality, [*stairs, c]
    places = chromium.value(f"Object.fromEntries({MARKS}.map(p => [p.getAttribute('aria-label').split('\\n')[0], p.getAttribute('transform')]))")
    line = chromium.value("document.querySelector('#live .mark-line path').getAttribute('d')")
    corners = {(round(float(x)), round(float(y))) for x, y in re.findall(r"[ML]([\d.]+),([\d.]+)", line)}
    assert len(stairs) >= 4
    for c in stairs:
        x, y = re.findall(r"[\d.]+", places[names_of([c], run).pop()])
        assert (round(float(x)), round(float(y))) in corners


def test_a_filter_leaves_its_rows_in_plot_and_table_and_finds_the_front_among_them(chromium: Browser, pages: dict[str, Path]) -> None:
    run = sweep_run()
    chromium.show(pages["sweep"], 1280)
    for press in ("host", "int8", "T=1", "T=3", "T=5"):
        chromium.click("#controls button", press)
    left = [c for c in run.candidates if c.target == "host" and c.precision == "int8" and c.steps in (1, 3, 5)]
    real = [c for c in left if c.latency_ms]
    marks = drawn(chromium)
    assert {m["name"] for m in marks} == names_of(real, run) and len(real) == 6
    assert {m["name"] for m in marks if m["front"]} == names_of(front(real, "latency_ms"), run)
    assert chromium.value(f"[...document.querySelectorAll({NAMES!r})].map(t => t.textContent).sort()") == sorted(names_of(left, run))
    assert chromium.value("document.querySelector('#status').textContent").startswith("6 of 90 candidates drawn, ")
    for press in ("host", "int8", "T=1", "T=3", "T=5"):
        chromium.click("#controls button", press)
    assert len(drawn(chromium)) == 75 and not chromium.complaints


def test_a_filter_that_leaves_nothing_says_so(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["sweep"], 1280)
    chromium.click("#controls button", "loihi1")  # simulated: no latency
    assert drawn(chromium) == [] and "No candidate that is left has this cost" in chromium.value("document.querySelector('#live').textContent")
    chromium.click(".switch label", "energy")
    assert len(drawn(chromium)) == 15 and not chromium.complaints


def test_each_kind_is_a_mark_of_its_own_and_simulated_ones_are_on_no_latency_axis(chromium: Browser, tmp_path: Path) -> None:
    base, *_ = [c for c in sweep_run().candidates if c.latency_ms and not c.latency_ms.estimated]
    assert base.latency_ms is not None
    kinds = ("measured", "counter", "imported", "calibrated-estimate", "spec-estimate")
    made = [
        dataclasses.replace(base, name=f"{kind}", model=kind, latency_ms=dataclasses.replace(base.latency_ms, value=1.0 + i, low=0.9 + i, high=1.1 + i, kind=kind))
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    made.append(dataclasses.replace(base, name="simulated", model="simulated", verdict="SIMULATED"))
    (tmp_path / "kinds.html").write_text(report.page(sweep_run(candidates=tuple(made))))
    chromium.show(tmp_path / "kinds.html", 1280)
    marks = drawn(chromium)
    assert len(marks) == 5 and len({(m["shape"], m["filled"]) for m in marks}) == 5
    assert [m["filled"] for m in marks] == [True, True, True, False, False]
    assert not any("simulated" in m["name"] for m in marks)
    key = chromium.value("document.querySelector('.choice > .key').textContent")
    assert all(word in key for word in ("measured here", "from a counter", "imported", "calibrated on the device", "from specifications"))


def test_pointer_and_keys_tell_the_row_and_lead_to_it(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["sweep"], 1280)
    tip = "document.querySelector('.tip')"
    assert chromium.value(f"{tip}.hidden")
    chromium.point("#live path[data-i]")
    chromium.settled()
    first = chromium.value(f"{MARKS}[0].getAttribute('aria-label').split('\\n')")
    assert not chromium.value(f"{tip}.hidden") and chromium.value(f"{tip}.textContent") == "".join(first)
    assert "% accuracy" in first[1] and first[2].startswith("latency: ") and "(estimate)" in first[3]
    chromium.value(f"{MARKS}[0].focus()")
    chromium.press("ArrowRight")
    second = chromium.value(f"{MARKS}[1].getAttribute('aria-label').split('\\n')")
    assert chromium.value(f"{tip}.textContent") == "".join(second)
    assert chromium.value(f"{MARKS}.filter(p => p.getAttribute('tabindex') === '0').length") == 1  # one stop for Tab, however many marks
    chromium.press("Enter")
    assert chromium.value("document.activeElement.querySelector('th').textContent") == second[0]
    assert not chromium.complaints


def test_a_click_or_enter_on_a_head_sorts_and_what_is_missing_stays_last(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["sweep"], 1280)
    column = "[...document.querySelectorAll('#candidates tbody tr')].map(r => r.cells[3].textContent)"
    chromium.click("#candidates thead button", "p50 ms")
    up = chromium.value(column)
    numbers = [float(re.sub(r"[~,]|\s*\(.*|\s[A-Z-]+$", "", t)) for t in up if t != "(simulated)"]
    assert numbers == sorted(numbers) and len(numbers) == 75 and up[75:] == ["(simulated)"] * 15
    assert chromium.value("document.querySelector('#candidates [aria-sort]').getAttribute('aria-sort')") == "ascending"
    chromium.value("document.querySelector('#candidates [aria-sort] button').focus()")
    chromium.press("Enter")
    down = chromium.value(column)
    assert down[:75] == up[:75][::-1] or [float(re.sub(r"[~,]|\s*\(.*|\s[A-Z-]+$", "", t)) for t in down[:75]] == numbers[::-1]
    assert down[75:] == ["(simulated)"] * 15
    chromium.show(pages["deploy"], 1280)
    chromium.click("section[id^=t-layers] thead button", "µs")
    layers = [float(t) for t in chromium.value("[...document.querySelectorAll('section[id^=t-layers] tbody tr')].map(r => r.cells[5].textContent)")]
    assert layers == sorted(layers) and len(layers) == 8


def test_without_scripts_the_plots_and_tables_are_there(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["sweep"], 1280, scripts=False)
    try:
        assert chromium.value("document.querySelectorAll('#still .drawing svg').length") == 2
        assert chromium.value("document.querySelector('#still').checkVisibility() && !document.querySelector('#controls').checkVisibility()")
        assert chromium.value("document.querySelectorAll('#candidates tbody tr').length") == 90
        assert chromium.value("document.querySelectorAll('#candidates button').length") == 0
        marks = chromium.value("document.querySelectorAll('#still .drawing:first-of-type svg title').length")
        assert marks == 75 + 90
    finally:
        chromium.show("about:blank")


def test_many_candidates_stay_below_the_size_and_all_of_the_front_is_there(chromium: Browser, pages: dict[str, Path]) -> None:
    run = sweep_run(copies=3)
    assert len(run.candidates) == 270 and pages["large"].stat().st_size < 1_500_000
    chromium.show(pages["large"], 1280)
    on = {m["name"] for m in drawn(chromium) if m["front"]}
    assert on == names_of(choice.front_of(run.candidates, "latency_ms"), run)
    names = tuple(dataclasses.replace(c, name=c.name + "x" * 5000, model=c.model + "y" * 5000) for c in sweep_run(copies=3).candidates[:200])
    assert len(report.page(sweep_run(candidates=names)).encode()) < 1_500_000


def test_hostile_names_are_read_and_do_nothing(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["hostile"], 1280)
    assert chromium.complaints == [] and asked(chromium) == [pages["hostile"].absolute().as_uri()]
    assert chromium.value("document.title") == f"{HOSTILE[1]} - edgekit"
    assert chromium.value("document.querySelectorAll('script').length") == 3
    chromium.value(f"{MARKS}[0].focus()")
    assert chromium.value("document.querySelector('.tip').children.length") >= 5 and chromium.value("document.querySelectorAll('.tip img').length") == 0
    assert HOSTILE[0] in chromium.value("document.body.textContent")


def test_the_policy_holds_even_if_a_name_were_not_escaped(chromium: Browser, tmp_path: Path) -> None:
    """The same markup planted behind the template: the policy stops it; without the policy the watch above sees it."""
    planted = report.page(sample_run()).replace("<main>", "<main><img src=planted.png><script>document.title='taken'</script><p style='color:red'>")
    (tmp_path / "planted.html").write_text(planted)
    (tmp_path / "bare.html").write_text(re.sub(r"<meta http-equiv[^>]*>", "", planted))
    with served(tmp_path) as (address, asked):
        chromium.show(f"{address}/planted.html")
        assert asked == ["/planted.html"] and chromium.value("document.title") != "taken"
        assert {"img-src", "script-src-elem", "style-src-attr"} <= {c.split()[1] for c in chromium.complaints if c.startswith("POLICY")}
        chromium.show(f"{address}/bare.html")
        assert "/planted.png" in asked and chromium.value("document.title") == "taken"


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
