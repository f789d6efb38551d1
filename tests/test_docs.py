"""The documents' blocks are marked as tests/docs_check.py wants them; running them is its own work: make docs-check."""

import docs_api
import docs_check
import pytest


def test_the_api_is_described_as_it_is():
    assert docs_api.PAGE.read_text(encoding="utf-8") == docs_api.page(), "run `make api`"


def test_every_page_can_be_taken_apart():
    pages = [path for glob in docs_check.PAGES for path in docs_check.ROOT.glob(glob)]
    found = [block for path in pages for block in docs_check.blocks(path.name, path.read_text(encoding="utf-8"))]
    assert {block.language for block in found if not block.reason} == {"", "python"}
    assert {"README.md", "serving.md"} <= {block.page for block in found if not block.reason}


def test_blocks_have_their_lines_languages_and_reasons():
    text = "a\n```\nb\n\nc\n```\n<!-- not run: it needs d -->\n\n```ruby\ne\n```\n```python\n```\n"
    assert docs_check.blocks("p.md", text) == [
        ("p.md", 3, "", "b\n\nc", ""),
        ("p.md", 10, "ruby", "e", "it needs d"),
        ("p.md", 13, "python", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n```\nb", "p.md:2: the block has no end"),
        ("```ruby\n```", "p.md:1: ruby is not run"),
        ("<!-- not run: a -->\nb", "p.md:2: expected a block after the marker"),
        ("<!-- not run: -->\n```\n```", "p.md:1: expected <!-- not run: the reason -->"),
    ],
)
def test_what_cannot_be_taken_apart(text, message):
    with pytest.raises(ValueError, match=message):
        docs_check.blocks("p.md", text)


@pytest.mark.parametrize(
    ("language", "code", "problem"),
    [
        ("", "true\nfalse\ntouch made", "exit code 1\nline 8: false\n"),
        ("", "cat nothing | true\ntouch made", "exit code 1"),
        ("python", "a = 1\nb", 'File "p.md", line 8, in <module>'),
        ("", "true && touch made", ""),
        ("python", "open('made', 'w').close()", ""),
    ],
)
def test_a_block_that_fails_is_named_by_its_line(tmp_path, language, code, problem):
    (tmp_path / "bin").mkdir()
    said = docs_check.run(docs_check.Block("p.md", 7, language, code, ""), tmp_path, tmp_path)
    assert problem in said and bool(problem) == bool(said)
    assert (tmp_path / "made").exists() == (not problem)
