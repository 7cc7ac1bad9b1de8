"""The page in a browser, end to end: nothing is loaded, everything is reached by keyboard, and it is legible everywhere."""

import shutil

import pytest
from rows import row
from test_page import Figure, environment, full, page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
OFFLINE = ("--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET))
# Of every visible text its colour, and what shows behind it: the backgrounds of its ancestors, laid over each other.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = element => {
    if (!element) return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.body.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
    .filter(e => !e.closest('.drawing'))  // text in figures may stand on coloured cells; the card behind them is tested by itself
    .map(e => {
      const style = getComputedStyle(e), ground = behind(e);
      const ink = over(rgba(e instanceof SVGElement ? style.fill : style.color), ground);
      const [dark, light] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      return {what: e.tagName + ' ' + e.className + ': ' + e.textContent.trim().slice(0, 40),
              ratio: (light + 0.05) / (dark + 0.05), needed: large ? 3 : 4.5};
    });
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e .[test]")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(PROGRAMS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=list(OFFLINE))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A written page: every word there is, figures, a model with a long name, and reasons without a place to break."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    name = "a-model-of-somebody-with-quite-a-long-name"
    more = [row(model=name, reason="x" * 300), row("size", name, "-", status="blocked", unit="", reason="/folder" * 40)]
    path.write_text(page([*full(), *more], environment(), [Figure("overview"), Figure("probes")]), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """A function (width, scheme) → the page opened in a window of its own."""
    contexts = []

    def open_page(width=1300, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()


def test_nothing_is_loaded_and_nothing_complains(browser, address):
    context = browser.new_context()
    tab, requests, complaints = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(address, wait_until="networkidle")
    assert requests == [address] and complaints == []
    context.close()


def test_the_keyboard_reaches_everything_and_shows_where_it_is_and_first_skips_to_the_content(opened):
    tab = opened()
    everything = tab.evaluate(
        "() => [...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).map((e, i) => { e.dataset.stop = i; return i })"
    )
    reached, unseen = [], []
    for _ in everything:
        tab.keyboard.press("Tab")
        stop, seen = tab.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [Number(e.dataset.stop), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2] }"
        )
        reached.append(stop)
        unseen += [] if seen else [stop]
    assert reached == everything and unseen == []
    tab = opened()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


def test_links_lead_to_their_places_and_expanders_open_and_close_by_keyboard(opened):
    tab = opened()
    links = tab.locator("a[href]:visible").all()
    assert len(links) > 20
    for link in links:
        link.focus()
        tab.keyboard.press("Enter")
        there = tab.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        assert tab.evaluate("location.hash") == link.get_attribute("href") and -1 <= there < 800
    expanders = tab.locator("summary").all()
    assert len(expanders) > 5
    for expander in expanders:
        expander.focus()
        is_open = "document.activeElement.parentElement.open"
        before = tab.evaluate(is_open)
        tab.keyboard.press("Enter")
        assert tab.evaluate(is_open) is not before
        tab.keyboard.press("Space")
        assert tab.evaluate(is_open) is before


@pytest.mark.parametrize("width", [320, 360, 1300])
def test_nothing_bursts_a_narrow_window(opened, width):
    tab = opened(width)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = tab.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length")
    assert wide > 0 or width > 360  # the tables are wide, and scroll by themselves


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_legible(opened, scheme):
    tab = opened(scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = tab.evaluate(CONTRASTS)
    assert len(found) > 300
    assert [each for each in found if each["ratio"] < each["needed"]] == []
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 60)")
    assert dark == (scheme == "dark")
    cards = tab.evaluate("[...document.querySelectorAll('.drawing')].map(e => getComputedStyle(e).backgroundColor)")
    assert cards == [{"light": "rgb(255, 255, 255)", "dark": "rgb(27, 32, 38)"}[scheme]] * 2


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core: pip install -e .[test]")
    tab = opened(width, scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    answer = axe.Axe().run(tab).response
    assert len(answer["passes"]) > 30
    assert [each["help"] for each in answer["violations"] if each["impact"] in ("serious", "critical")] == []


def test_the_table_alone_fills_the_first_screen(opened):
    tab = opened(1280)
    box = tab.locator(".slide").bounding_box()
    assert box["y"] < 60 and box["y"] + box["height"] > 760
    assert tab.evaluate("document.querySelector('.content').getBoundingClientRect().top") >= 800


def test_pictures_have_text(opened):
    tab = opened()
    silent = (
        "e => !(e.ariaHidden || e.getAttribute('aria-label') || e.closest('[role=img][aria-label]')?.getAttribute('aria-label'))"
    )
    assert tab.locator("svg").count() > 5
    assert tab.evaluate(f"[...document.querySelectorAll('svg, figure .drawing, img')].filter({silent}).length") == 0


def test_what_is_folded_away_is_printed(opened):
    tab = opened()
    if not tab.evaluate("CSS.supports('selector(details::details-content)')"):
        pytest.skip("this Chromium cannot open what is folded away for print alone (::details-content)")
    shown = "document.querySelector('details:not([open]) dl').checkVisibility()"
    assert not tab.evaluate(shown)
    tab.emulate_media(media="print")
    for _ in range(60):  # the style of what is folded away follows a frame or more later
        if tab.evaluate(shown):
            break
        tab.wait_for_timeout(50)
    assert tab.evaluate(shown) and tab.locator("details:not([open]) dl").first.bounding_box()["height"] > 10
    assert not tab.locator("nav").is_visible()
