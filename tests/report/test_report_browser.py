"""The report in a real browser: quiet, whole, sortable, and no wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tests.report.reports import EVIL, written

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
PHONE = {"width": 390, "height": 844}

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """The page of a bernoulli model, with all that it said and asked for in `.heard`."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.heard = []
    tab.on("console", lambda message: tab.heard.append(message.text))
    tab.on("pageerror", lambda error: tab.heard.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.heard.append("dialog"), dialog.dismiss()))
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(written("bernoulli")[1].html.as_uri())
    yield tab
    tab.close()


def test_it_says_nothing_and_asks_for_nothing(page: Any) -> None:
    assert page.heard == []
    assert [url for url in page.asked if not url.startswith("data:")] == [
        written("bernoulli")[1].html.as_uri()
    ]


def test_a_hostile_title_is_shown_as_it_is(page: Any) -> None:
    assert page.title() == f"A title {EVIL}"
    assert page.locator("h1").inner_text() == f"A title {EVIL}"
    assert page.locator("script").count() == 1


def test_every_figure_is_drawn_and_described(page: Any) -> None:
    told = page.evaluate(
        "[...document.images].map(i => [i.id, i.complete && i.naturalWidth > 100, i.alt.length])"
    )
    assert {name.removeprefix("figure-") for name, _, _ in told} == set(
        written("bernoulli")[1].figures
    )
    assert all(drawn and length > 40 for _, drawn, length in told)
    assert page.locator("svg[role=img]").get_attribute("aria-label").startswith("Graph of the")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_table_sorts_by_mouse_and_by_keys(page: Any, key: str) -> None:
    heads = page.locator("#table-population th")
    names = [text.strip() for text in heads.all_inner_texts()]
    place = names.index("events")
    head = heads.nth(place)

    def column() -> list[float]:
        cells = page.locator(f"#table-population tbody td:nth-child({place + 1})")
        return [float(text.replace(",", "")) for text in cells.all_inner_texts()]

    whole = pd.read_csv(written("bernoulli")[1].tables["population"])["n_events"]
    head.locator("button").click()
    first = head.get_attribute("aria-sort")
    assert column() == sorted(column(), reverse=first == "descending")
    head.locator("button").press(key)
    second = head.get_attribute("aria-sort")
    assert {first, second} == {"ascending", "descending"}
    assert column() == sorted(whole, reverse=second == "descending")
    others = [heads.nth(n).get_attribute("aria-sort") for n in range(len(names)) if n != place]
    assert set(others) == {"none"}


def test_texts_sort_as_texts(page: Any) -> None:
    head = page.locator("#table-checks th").first
    head.locator("button").click()
    cells = page.locator("#table-checks tbody td:first-child").all_inner_texts()
    assert cells == sorted(cells, key=str.lower)
    assert len(set(cells)) > 5


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_on_a_phone_only_tables_scroll_sideways(browser: Any, emission: Any) -> None:
    tab = browser.new_page(viewport=PHONE)
    tab.goto(written(emission)[1].html.as_uri())
    widths = "[document.documentElement.scrollWidth, window.innerWidth]"
    assert tab.evaluate(widths) == [PHONE["width"], PHONE["width"]]
    scrolled = "[...document.querySelectorAll('.scroll')].some(b => b.scrollWidth > b.clientWidth)"
    assert tab.evaluate(scrolled)
    assert tab.locator("nav details").get_attribute("open") is None
    tab.close()


def test_in_print_the_contents_are_left_out_and_nothing_is_cut(browser: Any) -> None:
    tab = browser.new_page(viewport={"width": 720, "height": 1000})
    tab.goto(written("bernoulli")[1].html.as_uri())
    tab.emulate_media(media="print")
    assert not tab.locator("nav").is_visible()
    assert tab.locator("#limits").is_visible()
    assert (
        tab.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    )
    tab.close()


def test_every_link_of_the_contents_leads_somewhere(page: Any) -> None:
    lost = page.evaluate(
        "[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert lost == []
