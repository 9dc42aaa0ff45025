"""Links between pages, files that pages name, and the tree of CONTRIBUTING.md: all of it exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb")])
LINK = re.compile(r"(?:\]\(|(?:src|srcset)=\\?\")([^)\s\"\\]+)")
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sql|toml|yaml|sh|md|ipynb|txt|jsonl|json))`")
BASES = (ROOT, ROOT / "src" / "editcollapse")
NOT_HERE = re.compile(r"^studies/(counterfact|ME-PPL_50)\.json$|^(build|results)/")
"""Files that users bring, or that a command makes."""


def _prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead_links(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead to no file, or to no heading of one."""
    dead = []
    for link in LINK.findall(_prose(text) if page.suffix == ".md" else text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.is_file() or (anchor and anchor not in anchors(path)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link is a file; every anchor is a heading of it."""
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("link", ["[x](no_page.md)", "[x](method.md#no-heading)", "[x](#nowhere)"])
def test_a_dead_link_is_found(link):
    """The test above can fail."""
    assert len(dead_links(ROOT / "docs" / "results.md", link)) == 1


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "CHANGELOG"], ids=lambda p: p.name)
def test_named_files_exist(page):
    """Every path in backticks is a file of the project, or of the library."""
    named = PATH.findall(page.read_text(encoding="utf-8"))
    dead = [
        path
        for path in named
        if not NOT_HERE.match(path) and not any((base / path).is_file() for base in BASES)
    ]
    assert dead == []


def test_tree_has_a_line_for_each_package():
    """CONTRIBUTING.md's tree lists every folder with Python in it, one line a package."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", text, re.DOTALL)
    assert tree
    listed: set[str] = set()
    parent = ""
    for line in tree[1].splitlines():
        found = re.match(r"( *)(\S+)/  ", line)
        if found and not found[1]:
            parent = found[2]
            listed.add(parent)
        elif found and len(found[1]) == 2:
            listed.add(f"{parent}/{found[2]}")
    tops = ("src/editcollapse", "flows", "tasks", "storage", "reports", "scripts", "demo")
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for top in (*tops, "benchmarks")
        for path in (ROOT / top).rglob("*.py")
    }
    assert folders | {"demo", "tests"} == listed


def test_pages_are_few():
    """Thirteen pages, three of them generated, and a notebook: a fact is said on one of them."""
    names = {page.name for page in (ROOT / "docs").iterdir() if page.is_file()}
    assert names == {
        "after_the_edit.md",
        "downstream.md",
        "editors.md",
        "explore.ipynb",
        "method.md",
        "operations.md",
        "results.md",
        "schema.md",
        "sequences.md",
        "sql.md",
        "studies.md",
        "tutorial.ipynb",
    }


def test_every_part_of_the_report_is_explained():
    """docs/operations.md's table of the report has each part under its title."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("| part | figure |")[1].split("\n\n")[0]
    explained = {line.split("|")[1].strip() for line in table.splitlines()[2:]}
    titles = {
        title
        for name in ("page", "sections", "comparisons", "editing", "sequences")
        for title in re.findall(
            r"^        title=\"(.*)\",$",
            (ROOT / "reports" / f"{name}.py").read_text("utf-8"),
            re.MULTILINE,
        )
    }
    titles -= {"Models and second moments", "Settings"}
    assert titles == explained - {"Models and second moments, Settings"}
