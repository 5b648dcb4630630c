"""The page of a run whose every name attacks, in a real browser: nothing runs, nothing is asked for, and it still reads like a report."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser
from markdown_it import MarkdownIt
from report_fixture import hostile_run, sweep_run
from test_report_page import MARKS, asked

from edgekit import report
from edgekit.report import perfetto
from edgekit.report.data import Run

SHOTS = os.environ.get("EDGEKIT_PICTURES", "")  # a folder: pictures of the pages are kept there, to be looked at


@dataclasses.dataclass
class Listener:
    """A server that hears what a page asks for; nothing that it serves is ever needed."""

    address: str
    heard: list[str]


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Listener(f"http://127.0.0.1:{server.server_port}", heard)
        server.shutdown()


def attacks(to: str) -> list[str]:
    """Names. Each would set window.owned or ask the listener, were any of it taken for more than text."""
    owned = f"window.owned=1,fetch('{to}/s')"
    return [
        f"</script><script>{owned}</script>", f"<img src={to}/i onerror={owned}>", f"\"'><svg/onload=\"{owned}\">", f"javascript:{owned}",
        f"<a href='javascript:{owned}'>x</a>", f"{{{{7*7}}}} {{% for x in y %}} ${{{owned}}} #{{7*7}}", f"datum['x'] + ({owned})",
        f"signal: {owned}", f"\\\");{owned};//", f"</style><style>@import url({to}/c);*{{background:url({to}/u)}}</style>",
        f"expression({owned});color:red;background:url('{to}/b')", f"<iframe srcdoc=\"<script>{owned}</script>\">", f"<base href={to}/>",
        f"<meta http-equiv=refresh content='0;url={to}/m'>", f"<link rel=stylesheet href={to}/l>", f"<!--<script>{owned}//-->", "]]><x>&lt;b&gt;&#60;",
        f"![p]({to}/p) [l](javascript:{owned}) <{to}/a> `c` | a | b |", "\u2028\u2029line\u0085ends\r\n", "\u202edesrever\u2066\u2069\u200b\ufeff",
        "\0nul\x1b[2J\x1b]8;;http://x\x07", "\ud800half", "__proto__", "constructor", "toString", "x" * 100_000, f"<b>{'y' * 100_000}", " ", "",
    ]  # fmt: skip


def attacked(to: str) -> Run:
    """A sweep whose candidates, and a deployed run whose all else, have such names."""
    names = attacks(to)
    turn = iter(range(10**6))

    def next_name() -> str:
        return names[next(turn) % len(names)]

    candidates = tuple(
        dataclasses.replace(
            c, name=f"{i} {next_name()}", model=next_name(), target=next_name(), device=next_name(), runtime=next_name(), format=next_name(),
            precision=next_name(), notes=(next_name(),), latency_ms=c.latency_ms and dataclasses.replace(c.latency_ms, note=next_name()),
            energy_mj=c.energy_mj and dataclasses.replace(c.energy_mj, note=next_name()),
        ) for i, c in enumerate(sweep_run().candidates)
    )  # fmt: skip
    rest = hostile_run()
    told = dict(zip(names, reversed(names), strict=True))
    pictures = tuple(dataclasses.replace(rest.pictures[0], title=n, caption=n) for n in names[:12])
    return dataclasses.replace(
        rest, name=names[0], family=names[1], score_name=names[5], candidates=candidates, notes=tuple(names), machine=told, versions=told, pictures=pictures,
        bundles=tuple(dataclasses.replace(b, label=names[9], folder=names[2], model=names[6], precision=names[18]) for b in rest.bundles),
        training=tuple(dataclasses.replace(r, label=next_name(), spikes_per_neuron=dict.fromkeys(names[:8], 0.1)) for r in rest.training),
    )  # fmt: skip


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, listener: Listener) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    report.write(attacked(listener.address), folder)
    return folder


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_and_nothing_is_asked_for(chromium: Browser, written: Path, listener: Listener, width: int) -> None:
    page = written / report.PAGE
    chromium.show(page, width)
    chromium.settled()
    assert chromium.complaints == [] and asked(chromium) == [page.absolute().as_uri()] and listener.heard == []
    assert chromium.value("window.owned") is None and chromium.value("document.title") == f"{attacks(listener.address)[0]} - edgekit"
    tags = set(chromium.value("[...document.body.querySelectorAll('*')].map(e => e.tagName.toLowerCase())"))
    assert not tags & {"iframe", "base", "meta", "link", "object", "embed", "x", "foreignobject", "use", "image", "animate"}
    assert chromium.value("document.querySelectorAll('script').length") == 3
    handlers = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on') || a.name === 'style'"
    assert chromium.value(f"{handlers} && !['outline'].includes(a.name)).filter(a => a.name.startsWith('on')).length") == 0
    links = chromium.value("[...document.querySelectorAll('[href], [src], [*|href]')].map(e => (e.getAttribute('href') || e.getAttribute('src') || '').slice(0, 15))")
    assert links and all(at == "data:," or at.startswith(("#", "data:image/png;")) for at in links)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_still_reads_like_a_report(chromium: Browser, written: Path, width: int) -> None:
    chromium.show(written / report.PAGE, width)
    chromium.settled()
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value(f"{MARKS}.length") >= 40 and chromium.value("document.querySelectorAll('#candidates tbody tr').length") == 90
    tallest = chromium.value("Math.max(...[...document.querySelectorAll('#candidates tbody tr')].map(r => r.getBoundingClientRect().height))")
    assert tallest < 900, "a name of 100 kB pulls its row apart"
    assert chromium.value("document.body.innerText.length") < 900_000 and (written / report.PAGE).stat().st_size < 1_600_000
    text = chromium.value("document.body.textContent")
    assert "{{7*7}}" in text and "49" not in chromium.value("document.querySelector('h1').textContent")
    assert not set(text) & set("\0\x1b\u2028\u2029\u202e\u2066\u200b\ufeff\ud800") and "characters cut, sha256" in text
    if SHOTS:
        chromium.picture(Path(SHOTS) / f"attacked-{width}.png")


def test_names_stay_names_when_a_reader_presses_and_points(chromium: Browser, written: Path, listener: Listener) -> None:
    """Every filter, the marks' notes, and heads that sort: what page.js makes of names is text."""
    chromium.show(written / report.PAGE, 1280)
    count = chromium.value("document.querySelectorAll('#controls button').length")
    assert count > 10
    for i in range(count):
        chromium.value(f"document.querySelectorAll('#controls button')[{i}].click()")
        if i % 9 == 0:
            chromium.settled()
    for i in range(count):
        chromium.value(f"document.querySelectorAll('#controls button')[{i}].click()")
    chromium.settled()
    for i in range(0, chromium.value(f"{MARKS}.length"), 7):
        chromium.value(f"{MARKS}[{i}].focus()")
        assert set(chromium.value("[...document.querySelectorAll('.tip *')].map(e => e.tagName)")) <= {"STRONG", "SPAN"}
    chromium.value("document.querySelectorAll('.sortable thead button').forEach(b => b.click())")
    chromium.settled()
    assert chromium.complaints == [] and listener.heard == [] and chromium.value("window.owned") is None


def test_without_scripts_it_reads_as_well(chromium: Browser, written: Path, listener: Listener) -> None:
    chromium.show(written / report.PAGE, 1280, scripts=False)
    assert listener.heard == [] and chromium.value("document.querySelectorAll('#still .drawing svg').length") >= 1
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_markdown_trace_and_json_hold_the_names_as_data(written: Path, listener: Listener) -> None:
    """An independent reader of Markdown finds no link, picture, HTML or heading that a name made; Perfetto's format is plain JSON."""
    text = (written / report.MARKDOWN).read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(text)
    inner = [t for token in tokens for t in (token, *(token.children or ()))]
    kinds = {t.type for t in inner}
    assert not kinds & {"html_block", "html_inline", "link_open", "fence", "code_block", "code_inline", "blockquote_open"}
    assert {t.attrs["src"] for t in inner if t.type == "image"} == {p.file for p in attacked(listener.address).pictures}
    assert {sum(t.type == "th_open" for t in inner)} == {9} and "\0" not in text and "\x1b" not in text and "\u202e" not in text
    trace = json.loads((written / report.TRACE).read_text(encoding="utf-8"))
    assert trace == json.loads(json.dumps(perfetto.trace(attacked(listener.address)))) and {e["ph"] for e in trace["traceEvents"]} <= set("XCMbe")
    assert not {c for c in json.dumps(trace, ensure_ascii=False) if ord(c) < 32 or c in "\u2028\u202e"}
    assert Run.from_json(json.loads((written / report.JSON).read_text(encoding="utf-8"))) == attacked(listener.address)
