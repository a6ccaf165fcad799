"""The tool that runs the documentation, on documents made for the purpose."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs_tool import (
    Block,
    blocks,
    commands,
    console_commands,
    difference,
    documents,
    main,
    matches,
    normalized,
    python_blocks,
    run_python,
    updated,
)

SESSION = """\
# Title

```console
$ ridgepoint one
alpha
  beta

$ make demo
whatever
$ ridgepoint two \\
    --json
```

```text
$ ridgepoint three
```

```python
x = 1
```
"""


def test_blocks_know_their_info_and_place() -> None:
    found = list(blocks(SESSION))
    assert [(block.info, block.first_line) for block in found] == [("console", 4), ("text", 15), ("python", 19)]
    assert found[2].lines == ("x = 1",)


def test_a_longer_fence_holds_shorter_ones() -> None:
    (block,) = blocks("````markdown\n```python\nx = 1\n```\n````\n")
    assert block == Block("markdown", ("```python", "x = 1", "```"), 2)


def test_an_indented_fence_loses_its_indent() -> None:
    (block,) = blocks("1. item\n\n   ```console\n   $ ridgepoint one\n     deep\n   ```\n")
    assert (block.lines, block.indent) == (("$ ridgepoint one", "  deep"), "   ")


def test_an_open_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line 2: .* never closed"):
        list(blocks("text\n```console\n$ ridgepoint one\n"))


def test_only_commands_of_the_project_run() -> None:
    first, second = console_commands(SESSION)
    assert (first.text, first.expected, first.line) == ("ridgepoint one", ("alpha", "  beta", ""), 4)
    assert (second.text, second.expected) == ("ridgepoint two --json", ())
    assert [command.text for command in commands(next(blocks(SESSION)))][1] == "make demo"


def test_another_info_string_is_not_run() -> None:
    assert console_commands("```console not-run\n$ ridgepoint one\n```\n") == []
    assert python_blocks("```python not-run\n1 / 0\n```\n") == []


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (["a  ", "b", ""], ["a", "b   "], True),
        (["a"], ["a", "b"], False),
        (["  a"], ["a"], False),
        (["…"], ["a", "b"], True),
        (["a", "…", "z"], ["a", "z"], True),
        (["a", "…", "z"], ["a", "b", "y"], False),
        (["a", "…", "m", "…"], ["a", "b", "m", "m", "z"], True),
        (["a (1+1)"], ["a (1+1)"], True),
        (["a … b"], ["a c b"], False),
        ([], [], True),
        ([], ["a"], False),
    ],
)
def test_matches(expected: list[str], actual: list[str], same: bool) -> None:
    assert matches(expected, actual) is same


LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])).filter(lambda line: line != "…"))


@given(LINES)
def test_lines_match_themselves_and_any_lines_match_all(lines: list[str]) -> None:
    assert matches(lines, lines)
    assert matches(["…"], lines)
    assert normalized(normalized(lines)) == normalized(lines)


def test_difference_names_line_and_command() -> None:
    command = console_commands(SESSION)[0]
    assert difference(command, "alpha\n  beta\n") == ""
    report = difference(command, "alpha\n  gamma\n")
    assert "line 4: $ ridgepoint one" in report
    assert "-  beta" in report
    assert "+  gamma" in report


def test_a_traceback_is_never_right() -> None:
    (command,) = console_commands("```console\n$ ridgepoint one\n…\n```\n")
    assert difference(command, "anything\n") == ""
    assert difference(command, "Traceback (most recent call last):\n  boom\n")


def test_updated_rewrites_only_what_differs() -> None:
    outputs = {"ridgepoint one": "alpha\n  beta\n", "ridgepoint two --json": "{}\n"}
    fresh = updated(SESSION, outputs.__getitem__)
    assert fresh == SESSION.replace("    --json\n", "    --json\n{}\n")
    assert updated(fresh, outputs.__getitem__) == fresh


def test_updated_keeps_the_indent_and_later_blocks() -> None:
    text = "- item\n\n  ```console\n  $ ridgepoint one\n  old\n  ```\n\nafter\n"
    assert updated(text, lambda _: "new\n\nlines\n") == text.replace("  old\n", "  new\n\n  lines\n")


def test_updated_keeps_an_ellipsis_that_holds() -> None:
    text = "```console\n$ ridgepoint one\nfirst\n…\n```\n"
    assert updated(text, lambda _: "first\nsecond\n") == text


def test_python_blocks_share_one_namespace() -> None:
    text = "```python\nx = 20\n```\n\n```python\n>>> y = x + 1\n>>> y\n21\n\n```\n\n```python\nassert y == 21\n```\n"
    run_python(python_blocks(text), "page.md")


def test_python_failures_are_seen() -> None:
    with pytest.raises(ZeroDivisionError):
        run_python(python_blocks("```python\n1 / 0\n```\n"), "page.md")
    with pytest.raises(AssertionError, match="Expected:\n    3"):
        run_python(python_blocks("```python\n>>> 1 + 1\n3\n```\n"), "page.md")


def test_documents_are_the_readme_and_the_pages(tmp_path: Path) -> None:
    assert documents(tmp_path) == []
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    for name in ("README.md", "docs/tour.md", "docs/decisions/0001.md"):
        (tmp_path / name).touch()
    assert documents(tmp_path) == [tmp_path / "README.md", tmp_path / "docs" / "tour.md"]


def test_the_command_line_reports_and_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ ridgepoint --no-such-option > /dev/null 2>&1\nwrong\n```\n", encoding="utf-8")
    assert main([str(page)]) == 1
    assert "-wrong" in capsys.readouterr().out
    assert main(["--update", str(page)]) == 0
    assert "wrong" not in page.read_text(encoding="utf-8")
    assert main(["--update", str(page)]) == 0
