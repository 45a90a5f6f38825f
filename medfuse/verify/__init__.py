"""Does an export say to every reader what it means? Foreign programs are asked, and nothing of ours is believed.

`verify` opens a folder with each reader installed, compares what each sees, asks the validators, and compares with the
sources where they are given.
"""

from medfuse.verify.report import Reading, Report, verify

__all__ = ["Reading", "Report", "verify"]
