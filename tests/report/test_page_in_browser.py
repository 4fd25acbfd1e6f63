"""The pages in a real browser: what moves, what is read under the pointer, what fits a phone."""

import pytest

from gan_jax.modes.actions.report import report
from tests.helpers import browser
from tests.helpers.run_folders import make

PHONE = 390  # pixels

pytestmark = pytest.mark.skipif(not browser.found(), reason="there is no Chromium here")


@pytest.fixture(scope="module")
def tab():
    with browser.page(browser.found()) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of one run, and that of three."""
    place = tmp_path_factory.mktemp("runs")
    runs = [make(place / name, seed=i) for i, name in enumerate("abc")]
    return report(runs[:1]), report(runs, place / "comparison.html")


@pytest.fixture(autouse=True)
def calm(tab):
    """No test may end with an error in the console or a request that leaves the page."""
    tab.errors.clear()
    tab.requests.clear()
    yield
    assert tab.errors == []
    assert all(address.startswith("file:") for address in tab.requests)
    assert len(set(tab.requests)) == 1  # the page itself


def text(tab, selector: str) -> str:
    return tab.evaluate(f"document.querySelector('{selector}').innerText")


def source(tab, film: int) -> str:
    return tab.evaluate(f"document.querySelector('[data-film=\"{film}\"] img').src")


def test_the_slider_shows_another_step_of_every_grid(tab, pages):
    tab.open(pages[0])
    newest = [source(tab, film) for film in (0, 1)]
    tab.evaluate("document.getElementById('slider').focus()")
    tab.press("Home")
    first = [source(tab, film) for film in (0, 1)]
    assert text(tab, "#step") == "step 0"
    assert len({*newest, *first}) == 4
    tab.press("ArrowRight")
    assert text(tab, "#step") == "step 200"
    assert text(tab, '[data-film="1"] figcaption').endswith("step 200")
    tab.press("End")
    assert [source(tab, film) for film in (0, 1)] == newest


def test_playing_goes_from_the_first_step_to_the_last(tab, pages):
    tab.open(pages[0])
    tab.click("#play")
    assert text(tab, "#step") == "step 0"
    assert text(tab, "#play") == "Pause"
    tab.evaluate("new Promise((done) => setTimeout(done, 900))")
    assert (text(tab, "#step"), text(tab, "#play")) == ("step 400", "Play")


def test_pictures_can_be_hidden_and_enlarged(tab, pages):
    tab.open(pages[0])
    tab.click(".choose button")
    assert tab.evaluate("document.querySelector('[data-film]').hidden")
    tab.click('[data-film="1"] .enlarge')
    assert tab.evaluate("document.querySelector('dialog').open")
    tab.press("Escape")
    assert not tab.evaluate("document.querySelector('dialog').open")


def test_values_are_shown_under_the_pointer_and_by_keys(tab, pages):
    tab.open(pages[0])
    tab.point(".plot", across=0.76)
    assert text(tab, ".tip") == "step 300, the best\n4"
    tab.press("Tab")
    tab.evaluate("document.querySelector('.plot').focus()")
    tab.press("Home")
    assert text(tab, ".tip").startswith("step 100\n6")
    tab.press("ArrowRight")
    assert text(tab, ".tip").startswith("step 200\n5")
    tab.press("Escape")
    assert tab.evaluate("document.querySelector('.tip').hidden")


def test_values_stay_where_a_finger_tapped(tab, pages):
    tab.open(pages[0], PHONE, 800)
    tab.touch(".plot", across=0.76)
    assert text(tab, ".tip") == "step 300, the best\n4"


def test_lines_can_be_hidden_and_axes_made_logarithmic(tab, pages):
    tab.open(pages[0])
    losses = "document.querySelectorAll('.panels')[1].querySelector('.chart')"
    lines = f"{losses}.querySelectorAll('path.strong').length"
    assert tab.evaluate(f"{losses}.querySelector('.legend').innerText") == (
        "generator loss\ndiscriminator loss"
    )
    assert tab.evaluate(f"{losses}.querySelector('.legend button').title") == "loss/gen"
    assert tab.evaluate(lines) == 2
    tab.evaluate(f"{losses}.querySelector('.legend button').click()")
    assert tab.evaluate(lines) == 1
    before = tab.evaluate(f"{losses}.querySelector('path.strong').getAttribute('d')")
    tab.evaluate(f"{losses}.querySelector('.log').click()")
    assert tab.evaluate(f"{losses}.querySelector('.log').getAttribute('aria-pressed')") == "true"
    assert tab.evaluate(f"{losses}.querySelector('path.strong').getAttribute('d')") != before


def test_three_runs_lie_over_each_other(tab, pages):
    tab.open(pages[1])
    lines = "document.querySelector('.chart').querySelectorAll('path.strong').length"
    assert tab.evaluate(lines) == 3
    assert tab.evaluate("document.querySelectorAll('.chart path.star').length") == 3
    tab.point(".plot", across=0.76)
    assert text(tab, ".tip") == "step 300, the best\na 4\nb 5\nc 6"
    tab.click(".legend.all button")
    assert tab.evaluate(lines) == 2
    assert tab.evaluate("document.querySelectorAll('#samples img').length") == 3


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_a_phone_shows_the_page_without_scrolling_sideways(tab, pages, which, dark):
    tab.open(pages[which], PHONE, 800, dark)
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    tab.settle()
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE
    assert tab.evaluate("innerWidth") == PHONE
    wide = tab.evaluate(
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, svg') &&"
        "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


LUMINANCE = """((style) => {
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(Number).map(part);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(style)].map((e) => {
    const own = light(getComputedStyle(e).color);
    return (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
  });
})"""


@pytest.mark.parametrize("dark", [False, True])
def test_texts_and_lines_stand_out(tab, pages, dark):
    """The contrasts that WCAG 2.2 asks of texts (4.5) and of lines (3)."""
    tab.open(pages[0], dark=dark)
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark
    assert min(tab.evaluate(LUMINANCE + "('body, .soft, a, .badge, summary, h1, td, th')")) >= 4.5
    assert min(tab.evaluate(LUMINANCE + "('path.strong')")) >= 3
