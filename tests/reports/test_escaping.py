"""Untrusted text is shown as it is: it opens no markup, runs nothing, leads nowhere."""

import re

import pytest
from markdown_it import MarkdownIt

from editcollapse.visible import visible, visible_lines
from reports.text import JOINER, artifact_key, fenced, markdown_text

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "[a]: http://evil.example\n\n[a]",
    "<http://evil.example>",
    "http://evil.example/a",
    "HTTPS://evil.example",
    "www.evil.example",
    "mail@evil.example",
    "mailto:x",
    "```\n# out of the fence\n```",
    "~~~\nx",
    "`code`",
    "a | b | c",
    "\\| a \\\\| b",
    "**bold** _it_ __b__ ~~gone~~",
    "# heading",
    "> quote",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "1) item",
    "---",
    "===",
    "    indented",
    "line one\n\nline two",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "$x^2$ {{ secret }} {% raw %}",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "trailing \\",
    "",
]
_TABLES = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _inline(markdown):
    """Return the token types and the text of Markdown that is to be one paragraph of text."""
    tokens = _TABLES.parse(markdown)
    kinds = [token.type for token in tokens]
    children = [child for token in tokens for child in token.children or ()]
    text = "".join(child.content for child in children)
    return kinds, {child.type for child in children}, text.replace(JOINER, "")


@pytest.mark.parametrize("text", ATTACKS)
def test_markdown_shows_the_text_itself(text):
    """Rendered as Markdown with HTML, tables and the rest, a text gives its own characters."""
    kinds, inside, shown = _inline(markdown_text(text))
    assert kinds in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert inside <= {"text", "text_special"}
    assert shown == visible(text).strip()


@pytest.mark.parametrize("text", ATTACKS)
def test_markdown_is_one_cell_of_a_table(text):
    """A text does not leave its cell, and the next cell is where it was."""
    table = f"| a | b |\n| --- | --- |\n| {markdown_text(text)} | end |\n"
    cells = [token.content for token in _TABLES.parse(table) if token.type == "inline"]
    assert len(cells) == 4
    assert cells[3] == "end"
    (_, inside, shown) = _inline(cells[2])
    assert inside <= {"text", "text_special"}
    assert shown == visible(text).strip()


@pytest.mark.parametrize("text", ATTACKS)
def test_no_address_is_left_to_find(text):
    """What finds addresses in rendered text, as GitHub's Markdown does, finds none."""
    shown = "".join(
        child.content
        for token in _TABLES.parse(markdown_text(text))
        for child in token.children or ()
    )
    found = re.findall(r"(?i)(?:https?|ftp)://|www\.|@\w", shown)
    assert not found


@pytest.mark.parametrize(
    "name", ["gpt2-xl", "fall_of_rome", "Llama-2-7b", "1.07", "12 of 32", "0 %"]
)
def test_ordinary_names_stay_as_they_are(name):
    """Where Markdown is shown unrendered, names and numbers are not full of backslashes."""
    assert markdown_text(name) == name


@pytest.mark.parametrize("text", ["```", "a\n````\n# b", "~~~", "`" * 9, "select 1"])
def test_fence_is_not_closed_by_its_text(text):
    """A code block holds all of its text and nothing follows it."""
    (block,) = _TABLES.parse(fenced(text, "sql"))
    assert block.type == "fence"
    assert block.content == text + "\n"


@pytest.mark.parametrize("text", ATTACKS)
def test_terminal_gets_nothing_to_obey(text):
    """No control or direction character is left; lines stay lines where lines are wanted."""
    assert visible(text).isprintable()
    assert visible_lines(text).replace("\n", "").isprintable()
    assert visible_lines(text).count("\n") == text.count("\n")


def test_keys_are_what_prefect_takes():
    """Keys of artifacts hold lower-case letters, digits and single dashes."""
    assert artifact_key("findings", "Fall_of.ROME") == "findings-fall-of-rome"
