from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.records import make_environment, make_record
from tests.report.browser import Browser, chromium
from tokprof.record import Ceilings, Failure, Fidelity, RunRecord
from tokprof.report import charts, derived
from tokprof.report.html import page
from tokprof.report.svg import Axis

EVIL = "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=2>"


def several() -> list[RunRecord]:
    ceilings = Ceilings(source="measured", flops_per_s=7.4e14, bytes_per_s=4.1e12, dtype="bfloat16")
    environment = make_environment().model_copy(update={"ceilings": ceilings})

    def made(method: str, keep: float, ms: float, agreement: float, layers: list[int]) -> RunRecord:
        fidelity = Fidelity(first_token_kl=1 - agreement, top1_agreement=1.0, greedy_agreement=agreement, tokens=20)
        return make_record(
            method, keep=keep, policy_ms=ms, fidelity=fidelity, per_layer=layers, environment=environment
        )

    return [
        made("todre", 0.1, 40, 0.90, [288] * 16 + [0] * 16),
        made("fastv", 0.25, 50, 0.97, [2880] * 2 + [720] * 30),
        made("fastv", 0.1, 44, 0.85, [2880] * 2 + [288] * 30),
        made("hidivdrop", 0.11, 35, 0.80, [0] * 8 + [2880] * 2 + [900] * 6 + [85] * 9 + [0] * 7),
        make_record("random", model=EVIL, visual=576, policy_ms=99.8, warnings=[EVIL]),
    ]


def failure() -> Failure:
    cell = several()[0].cell
    return Failure(key="0" * 16, cell=cell, reason=f"out of memory {EVIL}", hint="lower --batch")


@pytest.fixture(scope="module")
def document() -> str:
    return page(several(), [failure()], title=f"ToDRE, table 3 {EVIL}")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_outside_and_obeys_nothing_in_a_record(document: str) -> None:
    parser = Tags()
    parser.feed(document)
    assert sum(tag == "script" for tag, _ in parser.found) == 1
    assert not any(tag in ("img", "iframe", "object", "base", "form") for tag, _ in parser.found)
    for tag, attributes in parser.found:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
    assert "url(" not in document and "@import" not in document


def test_every_figure_of_the_table_is_on_the_page(document: str) -> None:
    from html import escape

    from tokprof.report.columns import filled

    for group in derived.by_subject(several()):
        rows = derived.sides(group)
        for row in rows:
            for column in filled(rows):
                assert escape(column.cell(row)) in document


def test_the_staircase_steps_where_the_tokens_do() -> None:
    rows = derived.sides(several()[:1])
    drawing = charts.staircase(rows, derived.short_labels(rows))
    line = re.findall(r'points="([^"]+)"', drawing.svg)[1]
    levels = [pair.split(",")[1] for pair in line.split()]
    assert len(levels) == 64 and len(set(levels[:32])) == 1 and len(set(levels[32:])) == 1
    assert float(levels[0]) < float(levels[-1])  # downwards on the screen


def test_no_two_ticks_read_the_same() -> None:
    axis = Axis("speed-up", 0.985, 1.008, lambda value: f"{value:.2f}×")
    shown = [axis.show(tick) for tick in axis.ticks()]
    assert len(shown) > 2 and len(shown) == len(set(shown))


def test_the_bars_of_a_request_add_up_to_its_time() -> None:
    rows = derived.sides(several()[:2])
    svg = charts.waterfall(rows, derived.short_labels(rows)).svg
    bars = re.findall(r'class="bar s\d" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg)
    lengths: dict[str, float] = {}
    for _, y, width in bars:
        lengths[y] = lengths.get(y, 0.0) + float(width)
    dense, todre, _ = lengths.values()
    times = [derived.total_ms(row.arm) or 0.0 for row in rows]
    assert todre / dense == pytest.approx(times[1] / times[0], rel=0.02)


def test_a_chart_without_its_data_is_left_out() -> None:
    record = make_record("fastv")
    bare = record.policy.model_copy(update={"memory": None, "fidelity": None, "bytes_moved": {}})
    dense = record.baseline.model_copy(update={"memory": None, "bytes_moved": {}})
    titles = {
        drawing.title
        for drawing in charts.drawings(derived.sides([record.model_copy(update={"policy": bare, "baseline": dense})]))
    }
    assert titles == {"Stages of a request", "Visual tokens per layer", "Time against output length"}


browser_wanted = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")


@pytest.fixture
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


@browser_wanted
@pytest.mark.parametrize(("width", "dark"), [(375, True), (1440, False)])
def test_in_a_browser(browser: Browser, document: str, tmp_path: Path, width: int, dark: bool) -> None:
    path = tmp_path / "report.html"
    path.write_text(document, encoding="utf-8")
    browser.open(path, width=width, dark=dark)
    assert browser.evaluate("window.hit") is None
    assert browser.evaluate("document.querySelectorAll('svg.chart').length") > 10
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # the page itself never scrolls sideways
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 249)")

    cells = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[1].dataset.value)"
    browser.evaluate("document.querySelectorAll('th button')[1].click()")
    falling = [float(value) for value in browser.evaluate(cells)]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) > 2
    browser.evaluate("document.querySelectorAll('th button')[1].click()")
    assert [float(value) for value in browser.evaluate(cells)] == falling[::-1]

    mark = "document.querySelector('path.mark[data-tip]')"
    browser.evaluate(f"{mark}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({mark}.getBoundingClientRect())"
    )
    browser.move_to(*box)
    assert browser.evaluate("!document.getElementById('tip').hidden")
    assert "dense" in browser.evaluate("document.getElementById('tip').textContent")

    select = "document.querySelector('figure select')"
    visible = "[...document.querySelectorAll('figure [data-choice]')].filter(part => !part.hidden).length"
    before = browser.evaluate(visible)
    browser.evaluate(f"{select}.selectedIndex = 3; {select}.dispatchEvent(new Event('change'))")
    assert browser.evaluate(visible) == before
    assert browser.complaints() == []
    assert browser.requests() == []
