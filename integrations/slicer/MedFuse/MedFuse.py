"""Fuse an MRI with its CT, PET or SPECT in 3D Slicer, by the ``medfuse`` command in an environment of its own.

What is not Slicer's or Qt's is in ``MedFuseLib``, which is tested without them.
"""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctk
import qt
import slicer
import vtk
from MedFuseLib.environment import Environment, NotReadyError, default_folder, default_source, find_python
from MedFuseLib.fusion import ALIGNMENTS, MODALITIES, Fused, Fusion, NotFusedError, fuse
from MedFuseLib.process import Process, Progress
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DISCLAIMER = "Research use only: not a medical device, not for diagnosis or treatment."

FOLDER_SETTING, PYTHON_SETTING = "MedFuse/EnvironmentFolder", "MedFuse/Python"

LOOK_MS = 100
"""Milliseconds between two looks at what the command's thread says: Qt's widgets belong to the main thread."""


class MedFuse(ScriptedLoadableModule):
    """Tell Slicer of the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "MedFuse"
        parent.categories = ["Registration"]
        parent.dependencies = []
        parent.contributors = ["The medfuse developers"]
        parent.helpText = (
            "Fuses an MRI with its CT, PET or SPECT by the GeSeNet network: aligns the partner, says whether the "
            f"pictures confirm it, and loads the fused volume and the transform. {DISCLAIMER}"
        )
        parent.acknowledgementText = (
            "GeSeNet: Li et al., IEEE TNNLS 2023, doi:10.1109/TNNLS.2023.3293274. medfuse is under the MIT licence."
        )


class MedFuseWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = MedFuseLogic()
        self._said: queue.Queue[Callable[[], None]] = queue.Queue()
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._listen)
        self._add_studies()
        self._add_environment()
        self.state = qt.QLabel(DISCLAIMER)
        self.state.wordWrap = True
        self.bar = qt.QProgressBar()
        self.bar.hide()
        self.layout.addWidget(self.bar)
        self.layout.addWidget(self.state)
        self.layout.addStretch(1)
        self._show_ready()

    def cleanup(self) -> None:
        """End what runs when the module is closed."""
        self._timer.stop()
        self.logic.process.stop()

    def _add_studies(self) -> None:
        form = _section(self.layout, "Fusion")
        self.mri, self.partner = _volume_selector(), _volume_selector()
        self.modality, self.align = qt.QComboBox(), qt.QComboBox()
        self.modality.addItems(list(MODALITIES))
        self.align.addItems(list(ALIGNMENTS))
        self.window, self.palette = qt.QLineEdit(), qt.QLineEdit()
        self.window.placeholderText = "default; or LEVEL,WIDTH"
        self.palette.placeholderText = "default; or hot-iron, pet, …"
        for label, widget in (
            ("MRI", self.mri),
            ("Partner", self.partner),
            ("Partner is", self.modality),
            ("Alignment", self.align),
            ("Window", self.window),
            ("Palette", self.palette),
        ):
            form.addRow(label, widget)
        self.run, self.cancel = qt.QPushButton("Fuse"), qt.QPushButton("Stop")
        self.run.connect("clicked()", self.on_fuse)
        self.cancel.connect("clicked()", self.logic.process.stop)
        self.cancel.enabled = False
        form.addRow(self.run, self.cancel)

    def _add_environment(self) -> None:
        form = _section(self.layout, "Environment of medfuse")
        settings = qt.QSettings()
        self.folder, self.python = ctk.ctkPathLineEdit(), ctk.ctkPathLineEdit()
        self.folder.filters = ctk.ctkPathLineEdit.Dirs
        self.python.filters = ctk.ctkPathLineEdit.Files
        self.folder.currentPath = settings.value(FOLDER_SETTING) or str(default_folder())
        found = find_python(slicer.util.startupEnvironment())
        self.python.currentPath = settings.value(PYTHON_SETTING) or str(found or "")
        self.folder.connect("currentPathChanged(QString)", lambda _: self._show_ready())
        self.create = qt.QPushButton("Create, and install medfuse (some GB)")
        self.create.connect("clicked()", self.on_create)
        form.addRow("Folder", self.folder)
        form.addRow("Made by Python", self.python)
        form.addRow(self.create)

    @property
    def environment(self) -> Environment:
        """The environment that is chosen."""
        return Environment(Path(self.folder.currentPath))

    def on_create(self) -> None:
        """Make the environment, in a thread."""
        environment, python = self.environment, Path(self.python.currentPath)
        settings = qt.QSettings()
        settings.setValue(FOLDER_SETTING, self.folder.currentPath)
        settings.setValue(PYTHON_SETTING, self.python.currentPath)

        def work() -> None:
            environment.create(self.logic.process, python, source=default_source(), tell=self._tell)

        self._start(work, lambda _: self._finish(f"medfuse is installed in {environment.folder}."))

    def on_fuse(self, force: bool = False) -> None:
        """Write the chosen volumes, and fuse them in a thread."""
        mri, partner = self.mri.currentNode(), self.partner.currentNode()
        if mri is None or partner is None or mri is partner:
            slicer.util.errorDisplay("Choose an MRI and another volume as its partner.")
            return
        qt.QSettings().setValue(FOLDER_SETTING, self.folder.currentPath)
        folder = tempfile.TemporaryDirectory(prefix="medfuse-", dir=slicer.app.temporaryPath)
        try:
            fusion = self.logic.written(
                mri,
                partner,
                Path(folder.name),
                modality=self.modality.currentText,
                align=self.align.currentText,
                window=self.window.text,
                palette=self.palette.text,
                force=force,
            )
        except (OSError, RuntimeError) as error:
            folder.cleanup()
            slicer.util.errorDisplay(str(error))
            return
        environment = self.environment

        def work() -> Fused:
            return fuse(self.logic.process, environment, fusion, self._tell)

        def done(made: Fused) -> None:
            self.logic.load(made, mri, partner)
            self._finish(f"{made.verdict}. {DISCLAIMER}")

        self._start(work, done, folder.cleanup)

    def _start(
        self, work: Callable[[], Any], done: Callable[[Any], None], after: Callable[[], None] | None = None
    ) -> None:
        """Run ``work`` in a thread; then, in this one, ``done`` with its result or tell why not, and ``after``."""
        self.run.enabled = self.create.enabled = False
        self.cancel.enabled = True
        self.bar.setRange(0, 0)
        self.bar.show()
        self._timer.start()

        def end(made: Any, fault: Exception | None) -> None:
            try:
                if fault is None:
                    done(made)
            finally:
                if after is not None:
                    after()
            if fault is not None:
                self._fail(fault)

        def run() -> None:
            made, fault = None, None
            try:
                made = work()
            except (NotReadyError, NotFusedError) as error:
                fault = error
            except Exception as error:  # told, so that the panel does not wait for ever
                logging.exception("MedFuse")
                fault = NotFusedError(f"{type(error).__name__}: {error}")
            self._said.put(lambda: end(made, fault))

        threading.Thread(target=run, daemon=True).start()

    def _tell(self, progress: Progress) -> None:
        """Take progress in the command's thread."""
        self._said.put(lambda: self._show(progress))

    def _listen(self) -> None:
        """Do in the main thread what the others asked for."""
        while True:
            try:
                self._said.get_nowait()()
            except queue.Empty:
                return

    def _show(self, progress: Progress) -> None:
        self.state.text = progress.text
        if progress.share is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, 100)
            self.bar.value = round(100 * progress.share)

    def _finish(self, text: str) -> None:
        self._timer.stop()
        self.bar.hide()
        self.cancel.enabled = False
        self.state.text = text
        self._show_ready()

    def _fail(self, error: Exception) -> None:
        self._finish("stopped" if self.logic.process.stopped else str(error))
        if self.logic.process.stopped:
            return
        if getattr(error, "can_force", False):
            question = f"{error}\n\nFuse them all the same? The result will say that it is not aligned."
            if slicer.util.confirmYesNoDisplay(question):
                self.on_fuse(force=True)
            return
        slicer.util.errorDisplay(str(error))

    def _show_ready(self) -> None:
        self.create.enabled = True
        self.run.enabled = self.environment.is_ready
        self.run.toolTip = "" if self.run.enabled else "Create the environment below, or choose one that holds medfuse."


class MedFuseLogic(ScriptedLoadableModuleLogic):
    """Pass volumes of the scene to the command, and results into the scene."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.process = Process()

    def written(self, mri: Any, partner: Any, folder: Path, **how: Any) -> Fusion:
        """Write both volumes as NIfTI, as they lie in their own world; transforms above them are left out.

        Slicer holds RAS, NIfTI files hold RAS: the writer keeps places and directions.
        """
        files = []
        for name, node in (("mri", mri), ("partner", partner)):
            file = folder / f"{name}.nii.gz"
            if not slicer.util.saveNode(node, str(file)):
                raise RuntimeError(f"the volume could not be written to {file}; is there space left?")
            files.append(file)
        return Fusion(*files, out=folder / "fused", **how)

    def load(self, made: Fused, mri: Any, partner: Any) -> Any:
        """Load the fused volume and the transform; returns the fused volume's node.

        The partner goes under the transform, and the fused volume and the transform under what the MRI is under, so
        that all three lie together wherever the MRI was put.
        """
        fused = slicer.util.loadVolume(str(made.volume), {"name": f"{mri.GetName()} fused"})
        transform = slicer.util.loadTransform(str(made.transform))
        transform.SetName(f"{partner.GetName()} to {mri.GetName()}")
        above = mri.GetTransformNodeID()
        fused.SetAndObserveTransformNodeID(above)
        transform.SetAndObserveTransformNodeID(above)
        partner.SetAndObserveTransformNodeID(transform.GetID())
        slicer.util.setSliceViewerLayers(background=fused, fit=True)
        return fused


class MedFuseTest(ScriptedLoadableModuleTest):
    """Tests that need Slicer's scene; those of the rest run without it."""

    def runTest(self) -> None:  # noqa: N802 - Slicer's name
        """Run all tests."""
        self.setUp()
        self.test_volumes_keep_their_places()

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def test_volumes_keep_their_places(self) -> None:
        """A volume that is written and loaded lies where it lay, and the results lie where the MRI was put."""
        mri = slicer.util.addVolumeFromArray(_ramp())
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy((0, 2, 0, 5, -1, 0, 0, 7, 0, 0, 3, 9, 0, 0, 0, 1))
        mri.SetIJKToRASMatrix(matrix)
        with tempfile.TemporaryDirectory() as folder:
            fusion = MedFuseLogic().written(mri, mri, Path(folder), modality="PET")
            again = slicer.util.loadVolume(str(fusion.mri))
        found = vtk.vtkMatrix4x4()
        again.GetIJKToRASMatrix(found)
        for row in range(4):
            for column in range(4):
                self.assertAlmostEqual(found.GetElement(row, column), matrix.GetElement(row, column), 4)
        self.delayDisplay("passed")


def _ramp() -> Any:
    import numpy as np

    return np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def _section(layout: Any, title: str) -> Any:
    """A collapsible part of the panel; returns the form in it."""
    button = ctk.ctkCollapsibleButton()
    button.text = title
    layout.addWidget(button)
    return qt.QFormLayout(button)


def _volume_selector() -> Any:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False  # no label maps, and no volumes in colour, such as fused ones
    selector.addEnabled = selector.removeEnabled = selector.renameEnabled = False
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    return selector
