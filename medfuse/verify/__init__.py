"""Verify an export with programs of other authors: what they read must be what was written.

`verify` opens a folder with each reader installed, compares what each sees, asks the validators, and compares with the
sources where they are given.
"""

from medfuse.verify.report import Reading, Report, verify

__all__ = ["Reading", "Report", "verify"]
