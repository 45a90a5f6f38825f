"""The 3D Slicer module's logic, without Slicer: arguments, progress, errors, the environment, and the real command."""

import ast
import doctest
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medfuse

MODULE = Path(__file__).parents[2] / "integrations" / "slicer" / "MedFuse"
sys.path.insert(0, str(MODULE))
environment, fusion, process = (
    importlib.import_module(f"MedFuseLib.{name}") for name in ("environment", "fusion", "process")
)
sys.path.remove(str(MODULE))

Environment, NotReadyError = environment.Environment, environment.NotReadyError
Fusion, NotFusedError = fusion.Fusion, fusion.NotFusedError
Ended, Process = process.Ended, process.Process


class Fake:
    """Runs nothing: answers what it was told to, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, arguments, environment, tell=None):
        self.asked.append((list(arguments), dict(environment)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


VERSION = Ended(0, "Python 3.12.1\n", "")
DONE = Ended(0, "", "")


@pytest.fixture
def ready(tmp_path):
    found = Environment(tmp_path / "env")
    found.command.parent.mkdir(parents=True)
    found.command.touch()
    return found


def wanted(tmp_path, **how):
    given = {"modality": "PET", "out": tmp_path / "out"} | how
    return Fusion(tmp_path / "mri.nii.gz", tmp_path / "pet.nii.gz", **given)


def test_the_logic_needs_neither_slicer_nor_medfuse():
    allowed = set(sys.stdlib_module_names) | {"MedFuseLib"}
    for path in (MODULE / "MedFuseLib").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_the_module_is_python_3_9_and_lists_its_files():
    ast.parse((MODULE / "MedFuse.py").read_text(), feature_version=(3, 9))
    listed = (MODULE / "CMakeLists.txt").read_text()
    for path in (MODULE / "MedFuseLib").glob("*.py"):
        assert f"MedFuseLib/{path.name}" in listed


def test_the_examples_of_the_logic_hold():
    for module in (environment, fusion, process):
        assert doctest.testmod(module).failed == 0


def test_pip_never_runs_in_slicers_python(tmp_path):
    """Neither in the source of the module nor by an interpreter that is Slicer's."""
    for path in MODULE.rglob("*.py"):
        assert "pip_install" not in path.read_text()
    slicers = tmp_path / "Slicer" / "bin" / "PythonSlicer"
    slicers.parent.mkdir(parents=True)
    slicers.touch()
    with pytest.raises(NotReadyError, match="Slicer's own Python"):
        Environment(tmp_path / "env").create(Fake(), slicers)


def test_the_environment_of_slicer_is_left_out():
    given = {
        "PATH": "/usr/bin",
        "HOME": "/home/me",
        "PYTHONHOME": "/opt/Slicer/lib/Python",
        "PYTHONPATH": "/opt/Slicer/bin",
        "LD_LIBRARY_PATH": "/opt/Slicer/lib",
        "QT_PLUGIN_PATH": "/opt/Slicer/lib/Qt",
        "PYTHONNOUSERSITE": "0",
        "VIRTUAL_ENV": "/somewhere",
    }
    cleaned = process.clean_environment(given)
    assert cleaned["PATH"] == "/usr/bin"
    assert cleaned["HOME"] == "/home/me"
    assert cleaned["PYTHONNOUSERSITE"] == "1"
    assert not {"PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "QT_PLUGIN_PATH", "VIRTUAL_ENV"} & cleaned.keys()


def test_an_environment_is_made_in_three_steps(tmp_path):
    made = Environment(tmp_path / "env")

    class Making(Fake):
        def __call__(self, arguments, given, tell=None):
            if "pip" in arguments:
                made.command.parent.mkdir(parents=True)
                made.command.touch()
            return super().__call__(arguments, given, tell)

    run = Making(VERSION, DONE, DONE)
    made.create(run, Path("/usr/bin/python3.12"))
    commands = [arguments for arguments, _ in run.asked]
    assert commands == [
        ["/usr/bin/python3.12", "--version"],
        ["/usr/bin/python3.12", "-m", "venv", str(made.folder)],
        [str(made.python), "-m", "pip", "install", "--upgrade", "medfuse"],
    ]
    assert all("PYTHONHOME" not in given for _, given in run.asked)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([Ended(0, "Python 3.9.10", "")], r"expected Python 3\.10 to 3\.14 .* found Python 3\.9"),
        ([Ended(0, "Python 3.15.0", "")], r"found Python 3\.15"),
        ([Ended(1, "", "no such thing")], "found no version"),
        ([FileNotFoundError(2, "No such file or directory")], "cannot be started: No such file"),
        ([VERSION, Ended(1, "", "Error: ensurepip is not available")], "ensurepip is not available"),
        ([VERSION, DONE, Ended(1, "", "ERROR: No matching distribution found")], "No matching distribution"),
        ([VERSION, DONE, DONE], "install medfuse there by hand"),
    ],
)
def test_an_environment_that_cannot_be_made_says_why(tmp_path, answers, message):
    with pytest.raises(NotReadyError, match=message) as raised:
        Environment(tmp_path / "env").create(Fake(*answers), Path("/usr/bin/python3"))
    assert "\n" not in str(raised.value)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "photo.png").touch()
    with pytest.raises(NotReadyError, match="holds other files"):
        Environment(tmp_path).create(Fake(VERSION), Path("/usr/bin/python3"))


def test_the_copy_around_the_module_is_installed_and_else_the_package(tmp_path):
    root = MODULE.parents[2]
    assert environment.default_source() == environment.default_source(MODULE) == str(root)
    assert 'name = "medfuse"' in (root / "pyproject.toml").read_text()
    # Copied elsewhere: alone, near the root of a disk, or into the repository of something else.
    other = tmp_path / "other" / "integrations" / "slicer" / "MedFuse"
    other.mkdir(parents=True)
    (tmp_path / "other" / "pyproject.toml").touch()
    for place in (tmp_path, Path("/MedFuse"), other):
        assert environment.default_source(place) == "medfuse"


def test_the_newest_python_on_the_path_is_found(tmp_path):
    for name in ("python3.10", "python3.12", "python3", "PythonSlicer"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o755)
    found = environment.find_python({"PATH": str(tmp_path)})
    assert found == tmp_path / "python3.12"
    assert environment.find_python({"PATH": str(tmp_path / "none")}) is None


def test_what_is_chosen_reaches_the_command(tmp_path):
    given = wanted(tmp_path, align="rigid", window=" 40,80 ", palette="hot-iron", force=True).arguments()
    assert given[:3] == ["fuse", "--modality", "PET"]
    assert {"--window=40,80", "--palette=hot-iron", "--force", "--json", "--with-partner"} <= set(given)
    # Values that begin with a dash are no options.
    assert "--window=-600,1500" in wanted(tmp_path, window="-600,1500").arguments()
    assert given[-3:] == ["--", str(tmp_path / "mri.nii.gz"), str(tmp_path / "pet.nii.gz")]
    plain = wanted(tmp_path).arguments()
    assert not [word for word in plain if word.startswith(("--window", "--palette", "--force"))]


def answer(tmp_path, verdict="aligned", **more):
    told = {
        "nifti": str(tmp_path / "fused.nii.gz"),
        "map": str(tmp_path / "registration.tfm"),
        "verdict": "aligned by rigid, about 0.5 mm",
        "provenance": {"registration": {"verdict": verdict}},
    }
    return Ended(0, json.dumps(told | more), "")


def test_results_are_read_from_the_commands_json(tmp_path, ready):
    made = fusion.fuse(Fake(answer(tmp_path)), ready, wanted(tmp_path))
    assert made.volume == tmp_path / "fused.nii.gz"
    assert made.transform == tmp_path / "registration.tfm"
    assert made.is_confirmed
    forced = answer(tmp_path, "not aligned", map=None, deformation=str(tmp_path / "registration.h5"))
    made = fusion.fuse(Fake(forced), ready, wanted(tmp_path))
    assert made.transform.suffix == ".h5"
    assert not made.is_confirmed


@pytest.mark.parametrize(
    ("ended", "message", "can_force"),
    [
        (Ended(3, json.dumps({"error": {"message": "the PET is cut."}}), "x"), r"^the PET is cut\.$", False),
        (Ended(4, json.dumps({"error": {"message": "not aligned."}}), ""), "^not aligned", True),
        (Ended(1, "no json", "Traceback\nModuleNotFoundError: torch\n"), "^ModuleNotFoundError: torch$", False),
        (Ended(-9, "", ""), "exit code -9 and said nothing", False),
        (Ended(0, json.dumps({"out": "x"}), ""), "an older one", False),
        (Ended(0, "[]", ""), "an older one", False),
        (PermissionError(13, "Permission denied"), "cannot be started: Permission denied", False),
    ],
)
def test_errors_are_the_commands_own_sentence(tmp_path, ready, ended, message, can_force):
    with pytest.raises(NotFusedError, match=message) as raised:
        fusion.fuse(Fake(ended), ready, wanted(tmp_path))
    assert raised.value.can_force is can_force


def test_without_medfuse_nothing_is_started(tmp_path):
    with pytest.raises(NotReadyError, match="there is no medfuse in"):
        fusion.fuse(Fake(), Environment(tmp_path), wanted(tmp_path))


# Processes.

BARS = r"""
import sys, time
print("compiling the engine", file=sys.stderr)
for share in (10, 55, 100):
    sys.stderr.write(f"\x1b[2K\rregister ━━━━╸━━━  {share}% 0:00:01 left 0:00:02\n")
    sys.stderr.flush()
print("x" * 200_000, file=sys.stderr)
print("y" * 200_000)
sys.exit(5)
"""


def test_progress_is_told_while_a_command_runs():
    told = []
    ended = Process()([sys.executable, "-c", BARS], os.environ | {"PYTHONUTF8": "1"}, told.append)
    assert ended.code == 5
    assert len(ended.output.strip()) == 200_000
    assert "compiling the engine" in ended.errors
    assert "register" not in ended.errors
    assert [one.share for one in told[:4]] == [None, 0.1, 0.55, 1.0]
    assert told[1].text == "register"


def test_a_command_that_runs_can_be_stopped():
    run, ended = Process(), []
    waiting = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    thread = threading.Thread(target=lambda: ended.append(run(waiting, os.environ)))
    thread.start()
    limit = time.monotonic() + 20
    while run._running is None and time.monotonic() < limit:
        time.sleep(0.01)
    run.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert ended[0].code != 0
    assert run.stopped
    run.stop()  # nothing runs any more


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment whose command is that of the medfuse under test."""
    found = Environment(tmp_path_factory.mktemp("env"))
    found.command.parent.mkdir(parents=True)
    root = Path(medfuse.__file__).parents[1]
    found.command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\nfrom medfuse.cli import main\nmain()\n"
    )
    found.command.chmod(0o755)
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for an installed command is a script with a first line")
def test_the_real_command_fuses_a_phantom(tmp_path, installed):
    """The partner, moved by a known map, lies on the MRI under the transform, in files as Slicer has them."""
    study = medfuse.phantom_study("PT", coarsen=4)
    for name, volume in (("mri", study.mri), ("pet", study.partner)):
        nib.save(nib.Nifti1Image(volume.as_tensor()[0].numpy(), volume.affine.numpy()), tmp_path / f"{name}.nii.gz")
    told = []
    made = fusion.fuse(Process(), installed, wanted(tmp_path), told.append)
    assert made.is_confirmed, made.verdict
    assert {one.text for one in told if one.share is not None} >= {"fuse"}
    fused = nib.load(made.volume)
    np.testing.assert_allclose(fused.affine, nib.load(tmp_path / "mri.nii.gz").affine, atol=1e-4)
    # As Slicer does it: the file maps points of the MRI's world to the partner's, LPS mm.
    transform = sitk.ReadTransform(str(made.transform))
    flip = np.diag([-1, -1, 1])
    for point in ((0.0, 0.0, 0.0), (30.0, -20.0, 25.0)):
        found = flip @ transform.TransformPoint(flip @ np.array(point))
        expected = (study.truth @ [*point, 1])[:3]
        assert np.linalg.norm(found - expected) < 4
    (tmp_path / "mri.nii.gz").write_bytes(b"broken")
    with pytest.raises(NotFusedError, match=r"mri\.nii\.gz"):
        fusion.fuse(Process(), installed, wanted(tmp_path, out=tmp_path / "again"))


@pytest.mark.slow
def test_a_real_environment_is_made(tmp_path):
    """venv and pip as they are; an empty package takes the place of medfuse, so that nothing is fetched."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        "[project]\nname = 'medfuse'\nversion = '0'\n[project.scripts]\nmedfuse = 'medfuse_stub:main'\n"
        "[build-system]\nrequires = []\nbackend-path = ['.']\nbuild-backend = 'builder'\n"
    )
    (project / "builder.py").write_text(
        "import zipfile\n"
        "def build_wheel(folder, *_):\n"
        "    name = 'medfuse-0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(folder + '/' + name, 'w') as wheel:\n"
        "        wheel.writestr('medfuse_stub.py', 'def main():\\n    print(1)\\n')\n"
        "        info = 'medfuse-0.dist-info/'\n"
        "        wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: medfuse\\nVersion: 0\\n')\n"
        "        wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(info + 'entry_points.txt', '[console_scripts]\\nmedfuse = medfuse_stub:main\\n')\n"
        "        wheel.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    made = Environment(tmp_path / "env")
    made.create(Process(), Path(sys.executable), source=str(project))
    assert made.is_ready
    assert subprocess.run([made.command], capture_output=True, text=True, check=True).stdout == "1\n"
