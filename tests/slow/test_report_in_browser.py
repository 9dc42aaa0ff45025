"""The report in a real browser, without a network: every figure is drawn and nothing complains."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from editcollapse.study.results_folder import results_at
from reports.page import write_report
from scripts.demo_rows import unpack
from storage.ask import find_study
from tests.reports.whole_study import write_whole_study

pytestmark = pytest.mark.slow
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: tests/QUARANTINES.md"
)
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no chromium on this machine: tests/QUARANTINES.md", allow_module_level=True)
DESKTOP, PHONE = 1280, 390
_PATIENCE, _PAUSE_MS = 200, 100
_READY = "['drawn', 'failed'].includes(document.documentElement.dataset.figures)"
_UNFOLD = "document.querySelectorAll('details.fold').forEach(each => { each.open = true; })"
_HEIGHT = "document.documentElement.scrollHeight"
_SIZES = """[...document.querySelectorAll('.drawing')].map(place => {
    const box = place.querySelector('svg, canvas')?.getBoundingClientRect();
    return box ? [box.width, box.height] : [0, 0];
})"""
_COLOURS = """[...new Set([...document.querySelectorAll('.drawing svg text')].map(
    text => text.getAttribute('fill')))]"""


@dataclasses.dataclass
class Visit:
    """A page that was opened, and what it said and asked for."""

    page: playwright.Page
    said: list[str]
    asked: list[str]


def until(page, expression: str) -> None:
    """Wait until an expression is true; asked from outside, as the page's policy allows no eval."""
    for _ in range(_PATIENCE):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(_PAUSE_MS)
    pytest.fail(f"never true: {expression}")


@pytest.fixture(scope="module")
def browser():
    """Return a headless browser."""
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Return the reports of the demo study, plain and with rows for every figure, by name."""
    plain = tmp_path_factory.mktemp("demo") / "results"
    unpack(plain)
    whole = tmp_path_factory.mktemp("whole") / "results"
    write_whole_study(whole)
    return {
        name: results / write_report(results_at(str(results)), find_study(results))
        for name, results in (("demo", plain), ("whole", whole))
    }


@pytest.fixture
def visit(browser):
    """Return a function that opens a page as a reader would, offline."""
    contexts = []

    def look(path: Path, width: int = DESKTOP, look: str = "light", *, scripts=True) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=look,
            offline=True,
            java_script_enabled=scripts,
        )
        contexts.append(context)
        found = Visit(context.new_page(), [], [])
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(path.as_uri())
        if scripts:
            until(found.page, _READY)
        return found

    yield look
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["demo", "whole"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("look", ["light", "dark"])
def test_report_is_drawn_without_a_word(visit, reports, name, width, look):
    """No console message, no request but the file's own, every figure drawn, no overflow."""
    found = visit(reports[name], width, look)
    assert found.said == []
    assert found.asked == [reports[name].as_uri()]
    found.page.evaluate(_UNFOLD)
    until(found.page, f"{_SIZES}.every(([wide]) => wide > 0)")
    until(found.page, _READY)
    assert found.page.evaluate("document.documentElement.dataset.figures") == "drawn"
    sizes = found.page.evaluate(_SIZES)
    assert len(sizes) >= 12
    assert all(0 < wide <= width and high > 40 for wide, high in sizes)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.title() == "demo: collapse report"


def test_figures_follow_the_look(visit, reports):
    """When the reader's device turns dark, so do the figures that are already drawn."""
    found = visit(reports["demo"])
    light = found.page.evaluate(_COLOURS)
    found.page.emulate_media(color_scheme="dark")
    assert light
    until(found.page, f"!{_COLOURS}.some(each => {json.dumps(light)}.includes(each))")
    until(found.page, _READY)
    assert found.page.evaluate(_COLOURS)
    assert found.said == []


def test_figure_is_saved(visit, reports):
    """A figure is saved as SVG and as PNG, under the policy of the page."""
    found = visit(reports["demo"])
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with found.page.expect_download() as download:
            found.page.locator(f"button[data-save={kind}]").first.click()
        assert download.value.suggested_filename == f"figure-incidence-1.{kind}"
        assert Path(download.value.path()).read_bytes().startswith(start)
    assert found.said == []


def test_saved_figure_has_its_legend(visit, reports):
    """On the page a legend stands once above the panels; a file stands alone and has its own."""
    found = visit(reports["demo"])
    assert found.page.locator("#figure-denominators .drawing .role-legend").count() == 0
    with found.page.expect_download() as download:
        found.page.locator("#figure-denominators button[data-save=svg]").first.click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert all(f">{word}<" in text for word in ("subject", "first token", "method", "C-ROME"))


def test_phone_page_is_short_and_unfolds(visit, reports):
    """Below 6,000 pixels; a link of the contents opens its part, whose figures are drawn then."""
    found = visit(reports["demo"], PHONE)
    assert found.page.evaluate(_HEIGHT) < 6000
    part = found.page.locator("#denominators details.fold")
    assert not part.evaluate("each => each.open")
    found.page.locator("nav a[href='#denominators']").click()
    until(found.page, "document.querySelector('#denominators .drawing svg, #denominators canvas')")
    assert part.evaluate("each => each.open")
    assert found.said == []


def test_sql_is_copied(visit, reports):
    """The button copies the SQL beside it, also while it is folded."""
    found = visit(reports["demo"])
    found.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    part = found.page.locator("#incidence .asked")
    part.locator("button.copy").click()
    until(found.page, "document.querySelector('#incidence button.copy').textContent === 'copied'")
    copied = found.page.evaluate("navigator.clipboard.readText()")
    assert copied == part.locator("pre").text_content()
    assert found.said == []


def test_contents_stay_in_sight(visit, reports):
    """Far down the page the contents are still there."""
    for width in (DESKTOP, PHONE):
        found = visit(reports["demo"], width)
        found.page.evaluate("window.scrollTo(0, 3000)")
        top, bottom = found.page.locator("nav").evaluate(
            "each => [each.getBoundingClientRect().top, each.getBoundingClientRect().bottom]"
        )
        assert 0 <= top < bottom <= 900


def test_page_without_scripts_has_tables_and_bars(visit, reports):
    """Where scripts are off, the bars of the incidence and all tables are there."""
    found = visit(reports["demo"], scripts=False)
    assert found.page.locator("figure.instead svg").first.is_visible()
    assert found.page.locator("#incidence table").is_visible()


def test_injected_script_does_not_run(visit, reports, tmp_path):
    """The policy names the page's scripts by digest: another one in the file is not run."""
    text = reports["demo"].read_text(encoding="utf-8")
    other = tmp_path / "other.html"
    other.write_text(text.replace("<main>", "<main><script>document.title='owned'</script>"))
    found = visit(other)
    assert found.page.title() == "demo: collapse report"
    assert any("Content Security Policy" in each for each in found.said)
