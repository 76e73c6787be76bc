"""The blocks of code in the documents, and which of them are not run.

A fenced block is run as it stands. Two comments change that, each on the lines before a fence:

    <!-- not run: takes hours -->

excepts the block that follows, for one of `REASONS`; and

    <!-- given: python
    loader, model = [], None
    -->

is run before what follows: what the reader of the page is taken to have already.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

REASONS = (
    "needs a cluster",
    "needs a GPU",
    "needs Lightning and transformers",
    "installs packages",
    "takes minutes",
    "takes hours",
)
SHELL = ("bash", "console", "sh")
RUN = (*SHELL, "python", "snakemake", "yaml")
SHOWN = ("text",)
"""What a program prints, or a formula."""
COMMAND = re.compile(r"(?:\$ )?(?:dysonflow|jupyter|make|pip|python3?|pytest|snakemake) (?!.* -> )")
INSTALLS = re.compile(r"\b(?:apt|apt-get|conda|mamba|pip) ")
"""Commands that change more than the folder in which they are called."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes
    ----------
    page : str
        Path in the repository.
    line : int
        Of its fence, from 1.
    language : str
        What the fence says it is.
    code : str
        Its lines, without the indentation of the fence.
    excepted : str
        Why it is not run; empty where it is.
    given : bool
        Whether it stands in a comment.
    """

    page: str
    line: int
    language: str
    code: str
    excepted: str = ""
    given: bool = False

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that its first line names in a comment; empty where it names none."""
        if self.language not in ("python", "snakemake", "yaml"):
            return ""
        found = re.match(r"# ([\w./-]+\.(?:py|smk|yaml))$", self.code.partition("\n")[0])
        return found[1] if found else ""


def pages() -> list[str]:
    """All documents with instructions, by path in the repository."""
    own = ["README.md", "CONTRIBUTING.md", "config/README.md", "profiles/README.md"]
    return own + sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def blocks(page: str) -> list[Block]:
    """Blocks of a page in their order."""
    return list(_parse(page, (ROOT / page).read_text(encoding="utf-8").splitlines()))


def _parse(page: str, lines: list[str]) -> Iterator[Block]:
    excepted, number = "", 0
    while number < len(lines):
        line, start = lines[number], number + 1
        number += 1
        if comment := re.match(r"<!-- not run: (.*) -->$", line):
            excepted = comment[1]
        elif comment := re.match(r"<!-- given: (\w+)$", line):
            code, number = _until(page, lines, number, "-->")
            yield Block(page, start, comment[1], code, given=True)
        elif fence := re.match(r"( *)```(.*)$", line):
            indent, language = fence.groups()
            code, number = _until(page, lines, number, f"{indent}```", len(indent))
            yield Block(page, start, language, code, excepted)
            excepted = ""
        elif excepted and line.strip():
            raise ValueError(f"{page}:{start}: no block follows on 'not run: {excepted}'")


def _until(page: str, lines: list[str], start: int, end: str, indent: int = 0) -> tuple[str, int]:
    for number in range(start, len(lines)):
        if lines[number] == end:
            return "".join(f"{line[indent:]}\n" for line in lines[start:number]), number + 1
    raise ValueError(f"{page}:{start}: a block without an end")


def check_configuration(text: str) -> None:
    """Hold a configuration against the schema and plan it, in the working directory."""
    import jsonschema
    import yaml

    from dysonflow.planning.graph import Plan
    from dysonflow.planning.reference import json_schema

    config = yaml.safe_load(text)
    jsonschema.validate(config, json_schema())
    plan = Plan.from_config(config)
    if not (plan.targets() and list(plan.artifacts())):
        raise ValueError("nothing would be made of this configuration")


def hidden_commands(page: str) -> list[str]:
    """Commands that stand in no block that is run: indented, or in one of what is printed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    outside = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.M | re.S)
    indented = [line.strip() for line in outside.splitlines() if line.startswith("    ")]
    shown = [
        line
        for block in blocks(page)
        if block.language in SHOWN
        for line in block.code.splitlines()
    ]
    return [line for line in indented + shown if COMMAND.match(line)]


def run_by_ci() -> set[str]:
    """Commands that .ci/run itself consists of, and the call of it."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line.startswith("make ")} | {"bash .ci/run"}


def count() -> str:
    """How many blocks are run, and how many are not, by reason."""
    found = [block for page in pages() for block in blocks(page) if not block.given]
    run = Counter(b.language for b in found if b.language in RUN and not b.excepted)
    left = Counter(block.excepted for block in found if block.excepted)
    parts = [f"{number} {language}" for language, number in sorted(run.items())]
    said = f"{run.total()} blocks of the documents run ({', '.join(parts)}), {left.total()} not"
    return said + (f" ({', '.join(f'{n} {r}' for r, n in sorted(left.items()))})" if left else "")


if __name__ == "__main__":
    # With a package that is not the one at hand, such as a copy that a page has added a model to.
    check_configuration(sys.stdin.read())
