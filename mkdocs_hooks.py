"""What the site holds beside docs/: pages and files of the repository that docs/ links to.

A link in a Markdown file is that of the repository, so that it also works where the file is read
there. Here it is turned to the place of its target in the site.
"""

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config/README.md": "configuration.md",
    "profiles/README.md": "profiles.md",
}
"""Pages that lie outside of docs/, by path in the repository, and where the site has them."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$|`[^`\n]+`|^ {4}[^\n]*$", re.M | re.S)
MEAN = re.compile(r"<(?=[A-Za-z]+>)")
"""A mean such as <S>, which would be taken for a tag."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in the pages outside of docs/, notebooks as pages, and the files that pages link to."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, content=_read(path)))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            place = str(PurePosixPath(file.src_uri).with_suffix(".md"))
            files.append(
                File.generated(config, place, content=_page_of(ROOT / "docs" / file.src_uri))
            )
    for file in list(files.documentation_pages()):
        source = _source(file.src_uri)
        for link in _links(file.content_string):
            target = _in_repository(source, link)
            if _is_extra(target) and files.get_file_from_path(_place(target)) is None:
                path = str(ROOT / target)
                files.append(File.generated(config, _place(target), abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to where their targets lie in the site."""
    place = page.file.src_uri
    source = _source(place)

    def turned(match: re.Match[str]) -> str:
        target = _in_repository(source, match[2])
        if _is_page_or_file(target):
            link = os.path.relpath(_place(target), os.path.dirname(place) or ".")
            return f"{match[1]}{link}{match[3]}"
        return match[0]

    return _outside_code(markdown, lambda text: MEAN.sub("&lt;", LINK.sub(turned, text)))


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _source(place: str) -> str:
    """Path in the repository of a page of the site."""
    return {there: here for here, there in PAGES.items()}.get(place, f"docs/{place}")


def _place(path: str) -> str:
    """Where the site has a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _in_repository(source: str, link: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(source), link))


def _is_page_or_file(path: str) -> bool:
    return not path.startswith("..") and (ROOT / path).is_file()


def _is_extra(path: str) -> bool:
    return _is_page_or_file(path) and path not in PAGES and not path.startswith("docs/")


def _links(markdown: str) -> list[str]:
    found: list[str] = []

    def keep(text: str) -> str:
        found.extend(match[2] for match in LINK.finditer(text))
        return text

    _outside_code(markdown, keep)
    return found


def _outside_code(markdown: str, change: Any) -> str:
    """A Markdown text whose parts that are no code are changed."""
    parts, end = [], 0
    for match in CODE.finditer(markdown):
        parts += [change(markdown[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(markdown[end:])])


def _page_of(path: Path) -> str:
    """A notebook as a page: its text and its code."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"
