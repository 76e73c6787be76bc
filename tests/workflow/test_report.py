"""The report in a real browser: pictures, numbers, tables that sort and filter, a telephone."""

import html.parser
import math
import re
import shutil

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import dysonflow
from dysonflow.analysis.laws import agreement
from dysonflow.artifacts import kinds
from dysonflow.planning.graph import Plan
from dysonflow.report.page import markup, report_page
from dysonflow.report.page.contents import Contents
from dysonflow.report.page.pictures import Picture
from dysonflow.results import Results

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = """</td></script><script>window.hit = 1</script><img src=x onerror="hit=1">'"`&amp;"""
DESK, TELEPHONE = (1400, 1000), (390, 844)

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
    yield Browser(driver)
    driver.quit()


class Browser:
    """The report as a reader uses it."""

    def __init__(self, driver):
        self.driver = driver
        self.run = driver.execute_script

    def open(self, path, size=DESK):
        # A window of the browser has a least width, a screen has none.
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        screen["mobile"] = size == TELEPHONE
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(path.as_uri())
        return self

    @property
    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def of_section(self, section, css):
        return self.driver.find_elements(By.CSS_SELECTOR, f"#{section} {css}")

    def head(self, section, name):
        """Place and head of a column of the first table of a section."""
        table = self.of_section(section, "table")[0]
        heads = table.find_elements(By.CSS_SELECTOR, "thead th")
        (place,) = (n for n, head in enumerate(heads) if head.text.split(" ↕")[0] == name)
        return place, heads[place]

    def column(self, section, name):
        """Texts of the rows of a column that are shown, from the top."""
        place, _ = self.head(section, name)
        return self.run(
            "return [...document.querySelector(`#${arguments[0]} tbody`).rows]"
            ".filter((row) => !row.hidden).map((row) => row.cells[arguments[1]].textContent)",
            *(section, place),
        )

    def definition(self, term):
        (text,) = self.driver.find_elements(By.XPATH, f"//dt[text()='{term}']/following::dd[1]")
        return text.text


@pytest.fixture
def page(browser, finished):
    return browser.open(finished.folder / "results" / "report.html")


def test_it_opens_without_an_error_and_without_a_network(page):
    assert page.errors == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    text = page.driver.find_element(By.TAG_NAME, "body").text
    for name in ("machine", "machine_evolution", "student", "student_evolution", "In short"):
        assert name in text
    (headline,) = page.driver.find_elements(By.TAG_NAME, "h1")
    assert headline.text == "What was run, and what came out"
    links = page.run("return [...document.links].map((link) => link.hash.slice(1))")
    assert len(links) > 10 and all(
        page.run("return !!document.getElementById(arguments[0])", *[x]) for x in links
    )


def test_every_figure_is_there_with_its_caption(page, finished):
    drawn = sorted((finished.folder / "results" / "figures").rglob("*.png"))
    shown = page.run(
        "return [...document.images].map((one) => [one.complete && one.naturalWidth, one.alt,"
        " one.closest('figure').querySelector('figcaption').innerText])"
    )
    # One for each of the two systems stands at the beginning, too.
    assert len(drawn) == 18 and len(shown) == len(drawn) + 2
    assert all(width > 300 and len(alt) > 20 and len(text) > 80 for width, alt, text in shown)
    assert {text.split(".")[0] for *_, text in shown[:2]} == {
        "gaussian_rbm, study machine: mean_gap",
        "teacher_student, study student: mean_gap",
    }
    # With the numbers that were fitted.
    captions = " ".join(text for *_, text in shown)
    assert re.search(r"slope \d\.\d+\(\d+\), theory 1\.7725", captions)
    assert re.search(r"slope \d\.\d+\(\d+\), theory 2\.5066", captions)
    assert not re.search(r"\bnan\b", captions) and "$" not in captions and "``" not in captions
    headings = [head.text for head in page.of_section("figures", "h3, h4")]
    assert headings == [
        *("gaussian_rbm", "Study machine", "Study machine_evolution"),
        *("teacher_student", "Study student", "Study student_evolution"),
    ]


def test_the_numbers_are_those_of_the_tables(page, finished):
    results = finished.folder / "results"
    laws, fits = dysonflow.read_scaling(results), dysonflow.read_fits(results)
    tested = laws[laws["verdict"] != ""]
    counted = page.definition("Laws")
    assert counted.startswith(f"{len(tested)} laws were tested")
    for verdict, count in tested["verdict"].value_counts().items():
        assert f"{verdict}: {count}" in counted
    assert page.column("laws", "law") == tested["law"].to_list()
    assert page.column("laws", "verdict") == tested["verdict"].to_list()
    differs = [pull for pull in tested["pull_full_theory"] if abs(pull) >= 3]
    words = page.column("laws", "agreement with the full theory")
    assert words.count("agrees") == len(tested) - len(differs)
    for pull in differs:
        assert f"{agreement(pull)} ({abs(pull):.1f} errors)" in words
    # All that is compared with the full theory, counted once more.
    within = fits[fits["beyond_theory"] == ""]
    p_values = [
        *(math.erfc(abs(pull) / math.sqrt(2)) for pull in tested["pull_full_theory"].dropna()),
        *(
            math.erfc(abs(pull) / math.sqrt(2))
            for name in fits.filter(like="pull_")
            for pull in fits[name].dropna()
        ),
        *within["gap_law_p_value"].dropna(),
        *within["angle_p_value"].dropna(),
    ]
    level = math.erfc(3 / math.sqrt(2))
    said = page.definition("Tests and chance")
    rejected = sum(p <= level for p in p_values)
    assert said.startswith(
        f"{rejected} of {len(p_values)} tests against the full theory do not agree"
    )
    assert f"by chance alone it would be {level * len(p_values):.1f} on average" in said
    assert f"(p = {min(p_values):.2g}" in said
    assert f"has p = {min(1, min(p_values) * len(p_values)):.2g} once" in said
    flagged = (fits["flag"] != "").sum()
    assert page.definition("Not fitted").startswith(f"{flagged} of" if flagged else "No fit")


def test_times_and_provenance_are_those_of_the_files(page, finished):
    made = dict(
        zip(page.column("provenance", "file"), page.column("provenance", "source"), strict=False)
    )
    for path in (finished.folder / "results" / "runs").glob("*/*/*"):
        about = kinds.peek(path)
        assert made[str(path.relative_to(finished.folder))] == about["source"]
    weights = list((finished.folder / "results").rglob("weights.safetensors"))
    seconds = sum(kinds.peek(path)["seconds"] for path in weights)
    assert f", {seconds:.1f} seconds of them on weights" in page.definition("Time")
    stages, files = page.column("times", "stage"), page.column("times", "files")
    assert sum(int(n) for stage, n in zip(stages, files, strict=True) if stage == "weights") == 7


def test_tables_sort_by_value(page):
    _, head = page.head("runs", "batch size")
    before = page.column("runs", "batch size")
    assert head.get_attribute("aria-sort") == "none"
    for order, turned in (("ascending", False), ("descending", True)):
        head.find_element(By.TAG_NAME, "button").click()
        assert head.get_attribute("aria-sort") == order
        found = page.column("runs", "batch size")
        assert found == sorted(before, key=int, reverse=turned) != sorted(before, reverse=turned)
    # By keyboard, and only one column at a time is the sorted one.
    place, other = page.head("runs", "run")
    other.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert other.get_attribute("aria-sort") == "ascending"
    assert page.of_section("runs", "th[aria-sort=none]") != []
    assert len(page.of_section("runs", "th[aria-sort=ascending]")) == 1
    assert len(page.of_section("runs", "th[aria-sort=descending]")) == 0


def test_cells_without_a_value_come_last(page):
    place, head = page.head("laws", "p of the scatter")
    for _ in range(2):
        head.find_element(By.TAG_NAME, "button").click()
        found = page.column("laws", "p of the scatter")
        assert found[0] and not found[-1]


def test_tables_and_figures_filter(page):
    rows = len(page.column("runs", "run"))
    field = page.of_section("runs", "input[type=search]")[0]
    output = page.of_section("runs", "output")[0]
    assert output.text == f"{rows} of {rows} rows"
    field.send_keys("teacher fresh")
    assert page.column("runs", "run") == []
    field.clear()
    field.send_keys("TEACHER shared")
    assert len(page.column("runs", "run")) == 1 and output.text == f"1 of {rows} rows"
    field.clear()
    Select(page.of_section("runs", "select")[0]).select_by_visible_text("gaussian_rbm")
    assert set(page.column("runs", "system")) == {"gaussian_rbm"}
    page.of_section("figures", "input")[0].send_keys("student pulls")
    shown = page.of_section("figures", "figure:not([hidden]) b")
    assert [one.text for one in shown if one.is_displayed()] == ["pulls."]
    headings = [one.text for one in page.of_section("figures", "h3, h4") if one.is_displayed()]
    assert headings == ["teacher_student", "Study student"]


def test_it_fits_a_telephone(browser, finished):
    page = browser.open(finished.folder / "results" / "report.html", TELEPHONE)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.run("return innerWidth") == TELEPHONE[0]
    assert page.run("return document.documentElement.scrollWidth") == TELEPHONE[0]
    widest = page.run("return Math.max(...[...document.images].map((one) => one.width))")
    assert 300 < widest < TELEPHONE[0]
    # What is wider scrolls on its own, by keyboard, too.
    boxes = page.run(
        "return [...document.querySelectorAll('.scroll')]"
        ".map((box) => [box.tabIndex, getComputedStyle(box).overflowX, box.clientWidth])"
    )
    assert all(box[:2] == [0, "auto"] and box[2] < TELEPHONE[0] for box in boxes)


def test_it_prints_all_rows_and_no_controls(page):
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(one.is_displayed() for one in page.of_section("runs", ".controls"))
        heights = page.run(
            "return [...document.querySelectorAll('.scroll')]"
            ".map((box) => box.scrollHeight - box.clientHeight)"
        )
        assert max(heights) <= 1
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


class Elements(html.parser.HTMLParser):
    """Names of all elements and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_no_text_of_others_becomes_markup(browser, finished, tmp_path, monkeypatch):
    """Names of layers and runs, flags and captions come from the user's own files."""
    monkeypatch.chdir(finished.folder)
    plan = Plan.from_config(yaml.safe_load((finished.folder / "my.yaml").read_text()), Results())
    given = plan.report_params()["studies"], plan.report_inputs()
    plain = report_page(*given)
    rows, peek = Contents.rows, kinds.peek

    def hostile_rows(self, kind, columns=None):
        return [
            {**row, "layer": HOSTILE, "flag": HOSTILE, "law": HOSTILE, "verdict": HOSTILE}
            for row in rows(self, kind, columns)
        ]

    monkeypatch.setattr(Contents, "rows", hostile_rows)
    monkeypatch.setattr(Picture, "caption", property(lambda self: f"{HOSTILE}. ``{HOSTILE}``"))
    monkeypatch.setattr(Picture, "title", property(lambda self: HOSTILE))
    monkeypatch.setattr(kinds, "peek", lambda path: {**peek(path), "device": HOSTILE})
    attacked = report_page(*given)
    assert attacked.count("window.hit") > 50
    for text in (plain, attacked):
        found = Elements(text)
        assert found.tags.count("script") == 1
        assert not {name for name in found.attributes if name.startswith("on")}
    assert set(Elements(attacked).tags) <= set(Elements(plain).tags)
    (tmp_path / "attacked.html").write_text(attacked, encoding="utf-8")
    page = browser.open(tmp_path / "attacked.html")
    assert page.errors == [] and page.run("return window.hit") is None
    assert HOSTILE in page.column("laws", "law")


def test_no_script_but_its_own_would_run(browser, tmp_path):
    smuggled = "<p>before</p><script>window.hit = 1</script><img src=x onerror='hit = 1'>"
    (tmp_path / "page.html").write_text(markup.document("a", "", smuggled), encoding="utf-8")
    page = browser.open(tmp_path / "page.html")
    assert page.run("return window.hit") is None
    assert len(page.errors) >= 1
