"""How the site is built: `make docs`. The source folder is the repository root.

So notebooks, benchmarks and the README's sections are pages as they lie there, not copies.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, wherever it is installed from

project = "bayes_interest"
author = "bayes_interest contributors"
version = release = installed("bayes-interest")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "benchmarks/*.md",
    "data/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", ".*/**", "out", "build", "dist", "tests", "bayes_interest", "recipes"]

# ---------------------------------------------------------------- Markdown and notebooks

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = "out/docs-cache"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # tqdm asks for widgets
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

# ---------------------------------------------------------------- docstrings

default_role = "literal"  # single backticks are code, as in the Markdown pages
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
nitpicky = True
# Without intersphinx (the build needs no network) what others document cannot be linked, nor what
# is not part of the public names.
nitpick_ignore_regex = [
    (r"py:.*", r"(pandas|pd|numpy|np|npt|torch|matplotlib|collections|pathlib|typing)\b.*"),
    (r"py:.*", r"(Any|Iterable|Sequence|Mapping|Callable|Hashable|Path|Self|NDArray|Literal)\b.*"),
    (r"py:.*", r"bayes_interest\..*"),
    (r"py:.*", r"(AxesType|Baseline|Belief|Encoder|Posterior|Summary|TuneResult)$"),
]

# ---------------------------------------------------------------- HTML

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "bayes_interest"
html_additional_pages = {"index": "to_docs.html"}
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
templates_path = ["templates"]


def _one_sentence(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon for a type: give it back to the sentence."""
    for place, line in enumerate(lines):
        found = re.match(r":r?type: (.* .*|[a-z]+)$", line)
        if found and found[1] not in ("bool", "float", "int", "str"):
            lines[place] = ""
            said = next((n for n in range(len(lines)) if lines[n].startswith(":returns: ")), None)
            start, text = (0, lines[0]) if said is None else (said, lines[said][10:])
            lines[start] = (":returns: " if said is not None else "") + f"{found[1]}: {text}"


def _formula(writer: Any, node: Any) -> None:
    """As MathML, which browsers draw by themselves: no script, so no network."""
    shown = "block" if node.tagname == "math_block" else "inline"
    writer.body.append(convert(node.astext(), display=shown))
    raise SkipNode


def setup(app: Any) -> None:
    """After Napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _one_sentence, priority=600)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
