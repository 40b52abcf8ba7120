"""How Sphinx makes the site from docs/: `make site`. No page asks another host for anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from thinned.version import __version__

os.environ.setdefault("KERAS_BACKEND", "numpy")  # Keras's default is a library that is not needed

sys.path.insert(0, str(Path(__file__).parents[2]))  # where docs.site lies

project = "Thinned"
author = "The authors of Thinned"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "myst_nb",
    "sphinx_copybutton",
    "docs.site.indexes",
    "docs.site.docstrings",
    "docs.site.public_names",
    "docs.site.mathml",
    "docs.site.outside",
]
root_doc = "README"
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["site", "**/build.py", "Thumbs.db"]
suppress_warnings = [
    "myst.header",  # a page may begin its subsections at any level
    "ref.python",  # a type that two libraries have leads to either
]

# ---------------------------------------------------------------------------------------- Markdown

myst_enable_extensions = ["dollarmath", "deflist", "attrs_block", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
# Files beside the pages: not documents, and not to be looked for among them.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "url": "{{path}}"}
# A dollar sign is mathematics only in the pages that are written for it.
myst_dmath_allow_digits = False
myst_dmath_allow_space = False

# --------------------------------------------------------------------------------------- notebooks

nb_execution_mode = "cache"  # of build/, so that a page runs again only where its code changed
nb_execution_timeout = (
    300  # on an idle machine a page takes ten seconds; on a busy one it must not fail
)
nb_execution_raise_on_error = True
nb_merge_streams = True

# ------------------------------------------------------------------------------------ API reference

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "py:obj"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ------------------------------------------------------------------------------------------- pages

html_theme = "pydata_sphinx_theme"
html_title = "Thinned"
html_static_path = ["static", "../draw"]
html_css_files = ["thinned.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_context = {"default_mode": "auto"}
html_favicon = "static/mark.svg"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
# A summary would have to be fetched, which a browser refuses to pages that are opened from files.
html_show_search_summary = False
html_last_updated_fmt = None
html_theme_options = {
    "logo": {
        "text": "Thinned",
        "image_light": "_static/mark.svg",
        "image_dark": "_static/mark.svg",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navigation_depth": 2,
    "show_nav_level": 1,
    "show_toc_level": 1,
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "search_bar_text": "Search",
}
html_sidebars: dict[str, list[str]] = {"README": [], "draw": []}
