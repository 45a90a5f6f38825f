"""Simulate a head for demos, tests and benchmarks: an MRI and a partner study with exactly known alignment.

It is no patient and no atlas but formulas: any grid can be sampled, any seed gives another head, nothing is downloaded.
`phantom_study` makes the pair; `Head`, `default_grid`, `default_pose` and `render` are its parts.
"""

from medfuse.phantom.head import Head
from medfuse.phantom.scanner import default_grid, default_pose, render
from medfuse.phantom.study import PhantomStudy, phantom_study
from medfuse.phantom.tissues import TISSUES

__all__ = ["TISSUES", "Head", "PhantomStudy", "default_grid", "default_pose", "phantom_study", "render"]
