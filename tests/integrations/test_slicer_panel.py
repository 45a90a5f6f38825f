"""The 3D Slicer module's panel and scene, with stand-ins for Slicer and Qt: what is called, and in which thread."""

import importlib
import sys
import threading
import time
import types
from pathlib import Path
from unittest.mock import MagicMock

import pytest

MODULE = Path(__file__).parents[2] / "integrations" / "slicer" / "MedFuse"


class Base:
    """Stands for the classes of ``slicer.ScriptedLoadableModule``."""

    def __init__(self, parent=None):
        self.parent, self.layout = parent, MagicMock()

    def setup(self):
        pass


class Node:
    """A volume or transform of the scene."""

    def __init__(self, name, above=None):
        self.name, self.above = name, above

    def GetName(self):  # noqa: N802
        return self.name

    def SetName(self, name):  # noqa: N802
        self.name = name

    def GetID(self):  # noqa: N802
        return f"id of {self.name}"

    def GetTransformNodeID(self):  # noqa: N802
        return self.above

    def SetAndObserveTransformNodeID(self, above):  # noqa: N802
        self.above = above


@pytest.fixture
def slicer(monkeypatch, tmp_path):
    """The module, imported beside stand-ins; its ``slicer`` writes empty files and loads nodes."""
    bases = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Test", "Widget"):
        setattr(bases, f"ScriptedLoadableModule{name}", type(f"Base{name}", (Base,), {}))
    fake = MagicMock()
    fake.ScriptedLoadableModule = bases
    fake.app.temporaryPath = str(tmp_path)
    fake.util.startupEnvironment.return_value = {"PATH": ""}
    fake.util.saveNode.side_effect = lambda node, file: bool(Path(file).write_text(node.name))
    fake.util.loadVolume.side_effect = lambda file, how: Node(how["name"])
    fake.util.loadTransform.side_effect = lambda file: Node(Path(file).name)
    qt, ctk = MagicMock(), MagicMock()
    # Each widget is an object of its own, as its state is read back.
    for name in ("QPushButton", "QComboBox", "QLineEdit", "QLabel", "QProgressBar", "QTimer"):
        setattr(qt, name, lambda *_: MagicMock())
    ctk.ctkPathLineEdit = type("PathLineEdit", (MagicMock,), {"Dirs": 1, "Files": 2})
    qt.QSettings.return_value.value.return_value = None
    fake.qMRMLNodeComboBox = lambda: MagicMock()
    for name, module in (("slicer", fake), ("slicer.ScriptedLoadableModule", bases), ("qt", qt), ("ctk", ctk)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "vtk", MagicMock())
    monkeypatch.syspath_prepend(str(MODULE))
    monkeypatch.delitem(sys.modules, "MedFuse", raising=False)
    fake.module = importlib.import_module("MedFuse")
    yield fake
    sys.modules.pop("MedFuse", None)


@pytest.fixture
def panel(slicer, tmp_path):
    made = slicer.module.MedFuseWidget()
    made.setup()
    made.folder.currentPath = str(tmp_path / "env")
    made.mri.currentNode.return_value, made.partner.currentNode.return_value = Node("T1"), Node("PET")
    made.modality.currentText, made.align.currentText = "PET", "rigid"
    made.window.text = made.palette.text = ""
    return made


def until_done(panel):
    limit = time.monotonic() + 20
    while panel.cancel.enabled and time.monotonic() < limit:
        panel._listen()
        time.sleep(0.01)
    assert not panel.cancel.enabled


def answering(panel, slicer, monkeypatch, *answers):
    """Let the command answer so, and keep what it was asked and in which thread."""
    asked, left = [], list(answers)

    def fuse(run, environment, fusion, tell):
        asked.append((fusion, threading.current_thread(), fusion.mri.read_text(), fusion.partner.read_text()))
        tell(slicer.module.Progress("register", 0.5))
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slicer.module, "fuse", fuse)
    return asked


def fused(slicer, tmp_path):
    return slicer.module.Fused(tmp_path / "fused.nii.gz", tmp_path / "registration.tfm", "aligned by rigid", True)


def test_the_partner_goes_under_the_transform_and_all_under_what_the_mri_is_under(slicer, tmp_path):
    mri, partner = Node("T1", above="id of head"), Node("PET", above="id of something")
    loaded = []
    slicer.util.loadTransform.side_effect = lambda file: loaded.append(Node(Path(file).name)) or loaded[0]
    result = slicer.module.MedFuseLogic().load(fused(slicer, tmp_path), mri, partner)
    assert mri.above == "id of head"
    assert partner.above == loaded[0].GetID() == "id of PET to T1"
    assert loaded[0].above == result.above == "id of head"
    assert result.name == "T1 fused"


def test_fusing_runs_in_a_thread_and_loads_in_the_main_one(slicer, panel, monkeypatch, tmp_path):
    asked = answering(panel, slicer, monkeypatch, fused(slicer, tmp_path))
    panel.on_fuse()
    assert not panel.run.enabled
    until_done(panel)
    fusion, thread, mri, partner = asked[0]
    assert thread is not threading.main_thread()
    assert (mri, partner, fusion.modality, fusion.align) == ("T1", "PET", "PET", "rigid")
    assert panel.partner.currentNode().above == "id of PET to T1"
    assert panel.bar.value == 50
    assert "Research use only" in panel.state.text
    assert not fusion.mri.exists()  # copies of the studies do not stay
    slicer.util.errorDisplay.assert_not_called()


@pytest.mark.parametrize("agreed", [True, False])
def test_what_is_not_aligned_is_forced_only_when_the_user_agrees(slicer, panel, monkeypatch, tmp_path, agreed):
    slicer.util.confirmYesNoDisplay.return_value = agreed
    refused = slicer.module.NotFusedError("not aligned.", can_force=True)
    asked = answering(panel, slicer, monkeypatch, refused, fused(slicer, tmp_path))
    panel.on_fuse()
    until_done(panel)
    assert [fusion.force for fusion, *_ in asked] == ([False, True] if agreed else [False])
    assert not any(fusion.mri.exists() for fusion, *_ in asked)


@pytest.mark.parametrize("fault", [RuntimeError("unforeseen"), KeyError("verdict")])
def test_a_fault_nobody_foresaw_is_shown_and_ends_the_wait(slicer, panel, monkeypatch, fault):
    answering(panel, slicer, monkeypatch, fault)
    panel.on_fuse()
    until_done(panel)
    assert type(fault).__name__ in slicer.util.errorDisplay.call_args[0][0]


def test_a_volume_that_cannot_be_written_is_told(slicer, panel):
    slicer.util.saveNode.side_effect = lambda node, file: False
    panel.on_fuse()
    assert "space left" in slicer.util.errorDisplay.call_args[0][0]


def test_one_volume_is_not_fused_with_itself(slicer, panel):
    panel.partner.currentNode.return_value = panel.mri.currentNode()
    panel.on_fuse()
    assert "another volume" in slicer.util.errorDisplay.call_args[0][0]


def test_the_environment_is_made_of_the_copy_that_the_module_lies_in(slicer, panel, monkeypatch):
    made = []
    environment = type(panel.environment)
    monkeypatch.setattr(environment, "create", lambda self, run, python, **how: made.append((python, how["source"])))
    panel.python.currentPath = "/usr/bin/python3.12"
    panel.on_create()
    until_done(panel)
    assert made == [(Path("/usr/bin/python3.12"), str(MODULE.parents[2]))]
    slicer.util.errorDisplay.assert_not_called()
