import pytest

from dysonflow.errors import ConfigError
from dysonflow.planning.configuration_files import check_keys


def problems(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        check_keys([path])
    except ConfigError as error:
        return str(error).replace(f"{path}: ", "").splitlines()
    return []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("studies:\n  s: {}\n  t: {}\n  s: {}\n", ["s is given twice, in lines 2 and 4"]),
        ("{a: 1, a: 2}", ["a is given twice, in line 1, and"]),
        ("a: [{b: 1, b: 2}]\na: 3\n", ["a is given twice", "b is given twice"]),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path, text, said):
    found = problems(tmp_path, text)
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: {a: 2}\n",
        "1: x\n'1': y\n",
        "a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: *a\n",
        "a: &a [*a]\n",
        "__use_yte__: true\n?if x: 1\n?if x: 1\n",
        "a:\n\t- tab",
        "a: {",
    ],
)
def test_other_files_are_left_to_whoever_reads_them(tmp_path, text):
    assert problems(tmp_path, text) == []


def test_a_file_that_is_not_there_is_left_to_whoever_reads_it(tmp_path):
    check_keys([tmp_path / "none.yaml"])
