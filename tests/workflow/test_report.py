"""The report in a real browser: categories, pictures, captions with numbers."""

import re
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1400, 1000)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, finished):
    browser.get((finished.folder / "results" / "report.html").as_uri())
    return Page(browser)


class Page:
    """The report as a reader uses it."""

    def __init__(self, browser):
        self.browser = browser

    def click(self, text):
        path = f"//*[normalize-space(text())='{text}']"
        WebDriverWait(self.browser, 20).until(lambda b: b.find_elements(By.XPATH, path))
        self.browser.find_element(By.XPATH, path).click()

    def wait_for(self, text):
        WebDriverWait(self.browser, 20).until(
            lambda b: text in b.find_element(By.TAG_NAME, "body").text
        )

    @property
    def text(self):
        return self.browser.find_element(By.TAG_NAME, "body").text


def test_it_opens_with_the_studies_and_no_error(page):
    page.wait_for("Studies in this report")
    for name in ("machine", "student_evolution", "Figures", "Scaling laws"):
        assert name in page.text
    errors = [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def test_figures_are_sorted_by_study(page):
    page.click("Figures")
    for study in ("machine", "machine_evolution", "student", "student_evolution"):
        page.wait_for(study)
    page.click("student")
    for figure in ("mean_gap", "gap_distribution", "block_density"):
        page.wait_for(figure)


def test_captions_quote_the_fitted_numbers(finished):
    # All captions lie in the page's data, whether or not they are open.
    text = (finished.folder / "results" / "report.html").read_text()
    assert re.search(r"slope \d\.\d+\(\d+\), theory 1\.7725", text)
    assert re.search(r"slope \d\.\d+\(\d+\), theory 2\.5066", text)
    assert "{{" not in re.findall(r"Study <tt.*?</p>", text)[0]
