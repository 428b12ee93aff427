"""Sphinx's settings: MyST pages, the API from the docstrings, nothing fetched from anywhere."""

import sys
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
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]
# a class lies in a module and is public in its room: two targets of one name
suppress_warnings = ["myst.header", "ref.python"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = f"niriss_eestep {version}"
html_show_sourcelink = False
html_static_path = []
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _fill(app, name, source):
    """Pages that are made from the package hold what it says now, whatever the file has."""
    source[0] = _generate.filled(name, source[0])


def setup(app):
    """Connect to Sphinx."""
    app.connect("source-read", _fill)
