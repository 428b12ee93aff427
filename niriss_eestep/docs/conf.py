"""Sphinx's settings: MyST pages, the API from the docstrings, nothing fetched from anywhere."""

import json
import shutil
import sys
from html import escape
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import _generate  # noqa: E402  (beside this file)

project = "niriss_eestep"
author = "The niriss_eestep developers"
copyright = f"2026, {author}"
version = release = installed_version("niriss_eestep")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
root_doc = "index"
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]
# a class lies in a module and is public in its room: two targets of one name
suppress_warnings = ["myst.header", "ref.python"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# pages of modules that have moved would be left over
shutil.rmtree(HERE / "api", ignore_errors=True)
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = f"niriss_eestep {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# only the pages of the Python interface have others below them
html_sidebars = {"[!a]*": [], "accuracy": []}
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _fill(app, name, source):
    """Pages that are made from the package hold what it says now, whatever the file has."""
    if name == "notebook":
        source[0] = "\n\n".join(_cell(cell) for cell in json.loads(source[0])["cells"])
    source[0] = _generate.filled(name, source[0])


def _cell(cell):
    """A cell of a notebook, with its outputs, as MyST."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    parts = [f"```python\n{text}\n```"]
    for output in cell["outputs"]:
        data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
        shown = f"<pre>{escape(''.join(output.get('text', '')) or data.get('text/plain', ''))}</pre>"
        if "image/png" in data:
            shown = f'<img alt="figure" src="data:image/png;base64,{data["image/png"].strip()}">'
        table = f"<div style='overflow-x: auto'>{data.get('text/html', shown)}</div>"
        parts.append(f"```{{raw}} html\n{table}\n```")
    return "\n\n".join(parts)


def setup(app):
    """Connect to Sphinx."""
    app.connect("source-read", _fill)
