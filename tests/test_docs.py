"""The pages under docs/: their Python runs, nothing is missing, what they include is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bayes_interest as bi
from tests.pages import PAGES, README, ROOT, python_blocks, run_page

DOCS = [page for page in PAGES if page != README]
WITH_CODE = [page for page in DOCS if python_blocks(page)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_the_python_of_a_page_runs(page):
    run_page(page)


def test_a_wrong_block_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# x\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "utf-8")
    assert [block.strip() for block in python_blocks(page)] == ["x = 1", "assert x == 2"]
    with pytest.raises(AssertionError) as failure:
        run_page(page)
    assert failure.traceback[-1].lineno + 1 == 8  # the line of the page


def test_every_public_name_is_in_the_reference():
    reference = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    directives = re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", reference, re.MULTILINE)
    assert len(directives) == len(set(directives))
    assert set(bi.__all__) <= set(directives)


def test_every_public_picture_is_in_the_reference():
    from bayes_interest.report import plots

    page = (ROOT / "docs/api/pictures.md").read_text("utf-8")
    pictures = {
        one for one in dir(plots) if one.startswith("plot_") and callable(getattr(plots, one))
    }
    assert pictures == set(re.findall(r"^\.\. autofunction:: (plot_\w+)$", page, re.MULTILINE))


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_what_a_page_includes_or_links_is_there(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"^```\{(?:include|literalinclude)\} (\S+)$", text, re.MULTILINE):
        assert (page.parent / target).is_file(), target
    for options in re.findall(r"^```\{include\} \S*README.md\n((?::.*\n)+)", text, re.MULTILINE):
        for heading in re.findall(r':(?:start-after|end-before): "(.+)"', options):
            assert heading in README.read_text("utf-8"), heading
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", plain):
        assert (page.parent / target).is_file(), target


def test_the_index_leads_to_every_page():
    found = set()
    for page in DOCS:
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
            lines = [
                line for line in tree.splitlines() if line and not line.startswith((":", ".."))
            ]
            lines += [
                line for line in tree.splitlines() if line.startswith("..") and "*" not in line
            ]
            found |= {(page.parent / line).resolve() for line in lines}
    missing = [path for path in found if not any(path.parent.glob(f"{path.name}.*"))]
    assert not missing
    pages = {page.with_suffix("") for page in DOCS} - {ROOT / "docs/index"}
    notebooks = {path.with_suffix("") for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert pages | notebooks <= found
