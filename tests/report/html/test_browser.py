"""The page in a browser: nothing complains, every image is drawn, tables sort, nothing is fetched."""

import json
import shutil

import pytest

WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def browser():
    """Return headless Chromium, or skip."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium, or no chromedriver, on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def opened(browser, page):
    """Return the browser with the report open, and the addresses that it asked for."""
    browser.get(page.as_uri())
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return browser, asked


def test_nothing_complains(opened):
    browser, _ = opened
    assert browser.get_log("browser") == []


def test_every_image_is_drawn(opened):
    browser, _ = opened
    sizes = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(sizes) >= 12 and min(sizes) > 0


def test_nothing_but_the_file_is_asked_for(opened, page):
    _, asked = opened
    assert page.as_uri() in asked
    assert {url.split(":")[0] for url in asked if url != page.as_uri()} <= {"data"}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_never_wider_than_the_window(opened, width):
    browser, _ = opened
    # A window of a headless browser has a least width; a frame of the page's own size has none.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide[0] <= wide[1] == width


def test_a_click_on_a_head_sorts_and_another_turns_it_round(opened):
    browser, _ = opened
    read = """
        const table = document.querySelector("#folds table.sortable");
        const column = [...table.tHead.rows[0].cells].findIndex(head => head.textContent.startsWith("accuracy"));
        const head = table.tHead.rows[0].cells[column];
        if (arguments[0]) head.querySelector("button").click();
        return [[...table.tBodies[0].rows].map(row => +row.cells[column].dataset.order), head.ariaSort,
                table.tFoot.rows[0].cells[0].textContent];
    """
    before, none, _ = browser.execute_script(read, False)
    up, ascending, foot = browser.execute_script(read, True)
    down, descending, _ = browser.execute_script(read, True)
    assert (none, ascending, descending) == ("none", "ascending", "descending")
    assert up == sorted(before) and down == sorted(before)[::-1] and len(up) == 3 and foot == "mean ± sd"


def test_empty_cells_stay_last(opened):
    browser, _ = opened
    rows = browser.execute_script("""
        const table = document.querySelector("#folds table.sortable"), body = table.tBodies[0];
        const empty = body.rows[1].cells[1];
        delete empty.dataset.order;
        empty.textContent = "—";
        const button = table.tHead.rows[0].cells[1].querySelector("button"), seen = [];
        for (let i = 0; i < 2; i++) { button.click(); seen.push(body.rows[2].cells[1].textContent); }
        return seen;
    """)
    assert rows == ["—", "—"]


def test_text_can_be_read_by_day_and_by_night(opened):
    browser, _ = opened
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        ink, page, card = browser.execute_script("""
            const style = element => getComputedStyle(document.querySelector(element));
            return [style("body").color, style("body").backgroundColor, style("figure").backgroundColor];
        """)
        assert contrast(ink, page) > 7 and brightness(card) == pytest.approx(1)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def brightness(colour):
    """Return the relative luminance of an rgb(…) colour (WCAG 2)."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast of two colours, from 1 to 21 (WCAG 2)."""
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)
