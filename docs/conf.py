"""Configure the documentation's build; see "Documentation" in CONTRIBUTING.md."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

# The examples are small: more threads mostly wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "medfuse"
author = "The medfuse developers"
copyright = "the medfuse developers"
release = version = installed_version("medfuse")

extensions = ["from_code", "myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = [
    "_build",
    "notebooks",
    "quality/mri-*.md",
    "quality/patients.md",
    "quality/volumes.md",
    "quality/ablations.md",
    "quality/body.md",
]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = f"medfuse {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme_options = {"announcement": "Research use only: not a medical device, not for diagnosis or treatment."}
