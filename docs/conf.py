"""How Sphinx builds these pages: `python -m sphinx -W -b html docs docs/_build/html`, without internet.

The parts that are particular to a course stand in `extensions/`, one idea a file.
"""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "tinyphi"
author = "the tinyphi authors"
copyright = "the tinyphi authors, CC BY 4.0"
release = importlib.metadata.version("tinyphi")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "api_pages",
    "course_pages",
    "gallery",
    "plain_docstrings",
    "plain_maths",
    "references",
]
exclude_patterns = ["_build"]

# The notebooks are shown as they were stored. Nothing runs here.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # stored outputs hold no widgets, and a page loads nothing from elsewhere
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
smartquotes = False
html_math_renderer = "mathml"

html_theme = "furo"
html_title = "tinyphi"
html_static_path = ["_static"]
html_css_files = ["tinyphi.css"]
html_js_files = ["views.js"]
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = "$ "
