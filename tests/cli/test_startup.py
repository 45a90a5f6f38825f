import subprocess
import sys
from importlib.metadata import version

import pytest

import medfuse
from medfuse.cli import app

HEAVY = {"torch", "monai", "numba", "scipy", "SimpleITK", "pydicom", "nibabel", "matplotlib"}

REPORT = """
import sys
from medfuse.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]

USAGE_ERRORS = [
    ["fuse", "mri", "partner", "--out", "out", "--plane", "oblique"],
    ["fuse", "mri", "partner", "--out", "out", "--align", "ridgid"],
    ["fuse", "mri", "partner", "--out", "out", "--bits", "12"],
    ["fuse", "mri", "partner", "--out", "out", "--method", "maximum"],
    ["fuse", "mri", "partner", "--out", "out", "--method", "max", "--engine", "tiled"],
    ["score", "mri", "partner", "--method", "max,beauty"],
    ["fuse", "mri", "partner", "--out", "out", "--injected-at", "soon"],
    ["fuse", "mri", "partner", "--out", "out", "--suv-by", "fat"],
    ["fuse", "mri", "partner", "--out", "out", "--palette", "violet"],
    ["fuse", "mri", "partner", "--out", "out", "--window", "brian"],
    ["fuse", "mri", "partner", "--out", "out", "--weights", "absent.safetensors"],
    ["fuse", "mri", "partner", "--out", "out", "--method", "gesenet:absent.pth"],
    ["fuse", "mri", "partner", "--out", "out", "--template", "absent"],
    ["fuse", "mri", "partner", "--out", "out", "--nuclide", "X-99"],
    ["fuse", "mri", "partner", "--out", "out", "--weight", "-3"],
    ["figure", "mri", "partner", "--out", "out.png", "--palette", "violet"],
    ["figure", "mri", "partner", "--out", "out.png", "--window", "brian"],
    ["score", "mri", "partner", "--method", "max", "--palette", "violet"],
    ["score", "mri", "partner", "--method", "max", "--window", "brian"],
    ["score", "mri", "partner", "--method", "gesenet", "--weights", "absent"],
    ["bench", "--weights", "absent"],
    ["bench", "--pictures", "absent.png", "absent.png"],
    ["align", "fixed", "moving", "--out", "a.tfm", "--modality", "XR"],
    ["align", "fixed", "moving", "--out", "a.tfm", "--fixed-segmentation", "a", "--moving-segmentation", "b"],
    ["verify", "export", "--source", "absent"],
    ["cohort", "plan", "source", "--rules", "absent.yaml"],
    ["cohort", "run", "source", "--out", "out", "--settings", "absent.yaml"],
    ["align", "fixed", "moving", "--out", "a.png"],
    ["score", "fused", "mri", "partner", "--scores", "nonsense"],
    ["train", "settings.yaml", "--steps", "many"],
    ["cohort", "plan", "source", "--out", "plan.xlsx"],
    ["export", "onnx", "network.onnx", "--size", "large"],
    ["export", "onnx", "network.onnx", "--weights", "absent"],
    ["nonsense"],
]


def loaded(code, *arguments):
    """Exit code of a program, and the packages that it has imported when it ends."""
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    return ended.returncode, {name.split(".")[0] for name in ended.stderr.splitlines()[-1].split()}


def test_the_package_is_imported_without_heavy_libraries():
    code, names = loaded("import sys, medfuse; print(*sys.modules, file=sys.stderr)")
    assert code == 0
    assert not names & HEAVY


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in COMMANDS), ["cohort"], ["cohort", "plan"], ["export", "onnx"]],
    ids=lambda command: " ".join(command),
)
def test_help_needs_no_heavy_library(command):
    code, names = loaded(REPORT, *command, "--help")
    assert code == 0
    assert not names & HEAVY


def test_the_version_needs_no_heavy_library():
    code, names = loaded("import sys, medfuse; medfuse.__version__; print(*sys.modules, file=sys.stderr)")
    assert code == 0
    assert not names & HEAVY
    command = [sys.executable, "-m", "medfuse", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == f"medfuse {medfuse.__version__}\n"
    assert medfuse.__version__ == version("medfuse")


@pytest.mark.parametrize("arguments", USAGE_ERRORS, ids=" ".join)
def test_a_usage_error_needs_no_heavy_library(arguments):
    code, names = loaded(REPORT, *arguments)
    assert code == 2
    assert not names & HEAVY
