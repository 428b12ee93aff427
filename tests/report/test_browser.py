"""The page in a real browser."""

import shutil

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(program, troubled, tmp_path_factory):
    from niriss_eestep.calibration.step import CalibrateVisitsStep
    from niriss_eestep.report.calibration import calibration_html
    from niriss_eestep.report.page import report_html

    directory = tmp_path_factory.mktemp("pages")
    for name, case in (("good", program), ("bad", troubled)):
        (directory / f"{name}.html").write_text(report_html(case.bundle), encoding="utf-8")
    step = CalibrateVisitsStep(output_dir=str(directory))
    step.calibrate([program.abs_flux])
    html = calibration_html(step.tables, step.calibration, [], ["calibration.ecsv"])
    (directory / "calibration.html").write_text(html, encoding="utf-8")
    return directory


@pytest.fixture(params=["good", "bad"])
def page(request, browser, pages):
    """The browser with a page open."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((pages / f"{request.param}.html").as_uri())
    return browser


def set_width(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_no_error_and_no_request(page):
    import json

    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert urls
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in urls if url.startswith("file:")]) == 1


def test_every_image_loads(page):
    script = "return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth > 0, i.decoding])"
    images = page.execute_script(script)
    assert images
    assert [alt for alt, loaded, _ in images if not loaded] == []


def column(page, table, index):
    script = (
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(r => r.cells[arguments[1]].innerText)"
    )
    return page.execute_script(script, table, index)


def click_heading(page, table, index):
    script = "document.querySelectorAll(`#${arguments[0]} thead th`)[arguments[1]].querySelector('button').click()"
    page.execute_script(script, table, index)


@pytest.mark.parametrize(("table", "index"), [("summary-table", 0)])
def test_words_sort(page, table, index):
    before = column(page, table, index)
    click_heading(page, table, index)
    assert column(page, table, index) == sorted(before)
    click_heading(page, table, index)
    assert column(page, table, index) == sorted(before, reverse=True)


def test_numbers_sort_as_numbers(page):
    def leading(cells):
        return [float(text.split()[0]) for text in cells if text[0].isdigit()]

    click_heading(page, "summary-table", 4)
    cells = column(page, "summary-table", 4)
    rates = leading(cells)
    assert rates == sorted(rates)
    # what is missing comes last
    assert all(text[0].isdigit() for text in cells[: len(rates)])
    heading = "return document.querySelectorAll('#summary-table th')[4].getAttribute('aria-sort')"
    assert page.execute_script(heading) == "ascending"


@pytest.mark.parametrize("width", WIDTHS)
def test_fits_the_screen(page, width):
    """Nothing sticks out of the page; nothing scrolls within it; no text is smaller than 11 pixels."""
    set_width(page, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """
        return [...document.querySelectorAll("main *, header *, nav *, .problems *")].filter(e => {
          const box = e.getBoundingClientRect();
          return box.width && box.right > innerWidth + 1 ;
        }).map(e => e.outerHTML.slice(0, 100))"""
    assert page.execute_script(outside) == []
    sizes = """
        return [...document.querySelectorAll("body, td, th, small, p, li, dd, summary, code")]
          .map(e => parseFloat(getComputedStyle(e).fontSize))"""
    assert min(page.execute_script(sizes)) >= 11
    # a figure's text, of 8 points (10.7 pixels) at least in its own size, is not shrunk to less than 7 pixels
    scales = (
        "return [...document.images].filter(i => i.width).map(i => i.getBoundingClientRect().width / i.naturalWidth)"
    )
    assert 10.7 * min(page.execute_script(scales)) > 7


def test_problems_are_on_the_first_screen(page):
    set_width(page, 1280)
    assert page.execute_script("return document.getElementById('problems').getBoundingClientRect().top") < 450


def test_details_open_for_printing(page):
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script("return [...document.querySelectorAll('details')].every(d => d.open)")


def test_prints_on_paper(page):
    import base64

    paper = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(paper).startswith(b"%PDF")


def test_tables_of_a_calibration_fit_a_phone(browser, pages):
    browser.get((pages / "calibration.html").as_uri())
    set_width(browser, 400)
    script = "return [...document.querySelectorAll('.table')].map(t => [t.innerText, t.scrollWidth - t.clientWidth])"
    assert [text for text, beyond in browser.execute_script(script) if beyond > 0] == []
