"""The site of docs/: built with warnings as errors, and whole without a network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import documents
import pytest
from conftest import ROOT
from limits import HANGING

pytestmark = pytest.mark.workflow

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements that a browser loads by itself, and where they say from where."""


class Loaded(HTMLParser):
    """What a page loads."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in LOADED and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(attributes.get(LOADED[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=HANGING,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_loads_nothing_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(documents.pages())
    for page in pages:
        found = Loaded()
        found.feed(page.read_text(encoding="utf-8"))
        assert found.addresses, page
        for address in found.addresses:
            if not address.startswith("data:"):
                assert "//" not in address, (page, address)
                # The page of what is not found is shown at any address, and so has absolute ones.
                start = site if page.name == "404.html" else page.parent
                place = re.split("[?#]", address)[0].lstrip("/")
                assert (start / place).exists(), (page, address)
    for sheet in site.rglob("*.css"):
        addresses = re.findall(
            r"url\(([^)]*)\)|@import +([^;]*);", sheet.read_text(encoding="utf-8")
        )
        assert not any("//" in part and "data:" not in part for a in addresses for part in a), sheet


def test_what_pages_link_to_outside_of_docs_is_there(site):
    for name in ("config/config.yaml", "src/dysonflow/models/char_gpt.py", "LICENSE"):
        assert (site / "repository" / name).read_bytes() == (ROOT / name).read_bytes()
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="physics.html"' in front and 'href="contributing.html"' in front
