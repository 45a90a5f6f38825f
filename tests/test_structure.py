"""Check the layout of the package: folders, the direction of imports, and who imports which library."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import medfuse

PACKAGE = Path(medfuse.__file__).parent

IMPORTERS = {
    # verify asks other programs what they read, so it opens files by their libraries.
    "SimpleITK": {"registration", "verify"},
    "nibabel": {"nifti", "verify"},
    "gdcm": {"verify"},
    "pydicom": {"dicom", "archive"},
    "dicomanonymizer": {"dicom"},
    "pynetdicom": {"archive"},
    "requests": {"archive"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "ipyniivue": {"pipeline"},
    "ipywidgets": {"pipeline"},
    "typer": {"cli"},
    "rich": {"cli"},
    "dask": {"cohort"},
    "distributed": {"cohort"},
    "psutil": {"cohort"},
    "safetensors": {"gesenet"},
    "yaml": {"runtime"},
    "ancpbids": {"cohort"},
    "numba": {"gesenet"},
    "llvmlite": {"gesenet"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
}
"""Which folders or modules import a library; a library that is not named is everybody's."""

ORDER = [
    "errors",
    "version",
    "runtime",
    "volume",
    "intensity",
    "provenance",
    "metrics",
    "methods",
    "dicom.decimals",
    "dicom.header",
    "dicom.palettes",
    "dicom.patient",
    "dicom.frames",
    "dicom.encoding",
    "dicom.scanning",
    "dicom.reading",
    "dicom.writing",
    "dicom.objects",
    "dicom.deidentify",
    "dicom.consistency",
    "dicom.simulate",
    "dicom",
    "nifti",
    "load_study",
    "registration",
    "phantom",
    "gesenet.architecture",
    "gesenet.weights",
    "gesenet.masks",
    "gesenet.network",
    "gesenet.loading",
    "gesenet.engines",
    "gesenet.batches",
    "gesenet.training",
    "gesenet",
    "export",
    "report",
    "pipeline",
    "transforms",
    "cohort",
    "bench",
    "archive",
    "verify",
    "cli",
]
"""A module imports only modules of the same line or of lines before it."""

ASIDE = {"", "__main__", "moved_modules"}
"""The package itself, ``python -m medfuse``, and the names of before."""


def modules():
    """Each module of the package: its dotted name below ``medfuse``, and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__").removesuffix("__init__"), path


NAMES = {name for name, _ in modules()}


def imported(path):
    """Dotted names of the modules that a file imports, at any time; those for annotations alone count too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            below = node.module.removeprefix("medfuse").lstrip(".")
            for name in node.names:
                single = f"{below}.{name.name}".lstrip(".")
                is_module = node.module.split(".")[0] == "medfuse" and single in NAMES
                yield f"medfuse.{single}" if is_module else node.module


def below(path):
    """The modules of the package that a file imports."""
    return {name.removeprefix("medfuse").lstrip(".") for name in imported(path) if name.split(".")[0] == "medfuse"}


def line_of(name):
    """The place of a module in the order: that of the longest line that it belongs to."""
    return max((unit for unit in ORDER if f"{name}.".startswith(f"{unit}.")), key=len)


def test_each_library_has_one_importer():
    for name, path in modules():
        for library in imported(path):
            allowed = IMPORTERS.get(library.split(".")[0])
            assert allowed is None or name.split(".")[0] in allowed, f"{name} imports {library}"


def test_imports_run_one_way():
    for name, path in modules():
        if name not in ASIDE:
            for other in below(path) - {""}:
                assert ORDER.index(line_of(other)) <= ORDER.index(line_of(name)), f"{name} imports {other}"


def test_no_imports_form_a_circle():
    graph = {name: below(path) - {name} for name, path in modules() if name not in ASIDE}
    TopologicalSorter(graph).prepare()


def test_no_module_hides_a_name_that_its_package_loads_when_asked():
    """Python sets a module as its package's attribute once anybody imports it, and the package is not asked again."""
    hidden = []
    for stub in PACKAGE.rglob("__init__.pyi"):
        beside = {path.stem for path in stub.parent.iterdir()}
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {name.name for name in node.names}
                hidden += [f"{stub.parent.name}.{name}" for name in names & beside if name != node.module]
    assert hidden == []


def test_every_module_has_its_place_in_the_order():
    assert {line_of(name) for name in NAMES - ASIDE} == set(ORDER)


def test_folders_are_small_and_say_what_they_are_for():
    files = Counter(path.parent for name, path in modules() if path.name != "__init__.py")
    assert max(files.values()) <= 15
    for folder in files:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("path", [path for _, path in modules()], ids=[name for name, _ in modules()])
def test_files_hold_one_job(path):
    assert len(path.read_text().splitlines()) <= 360


def test_functions_hold_one_job():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                assert node.end_lineno - first.lineno < 60, f"{name}: {node.name}"


def test_the_public_names_are_few_and_documented():
    names = [name for name in medfuse.__all__ if name != "__version__"]
    assert len(names) <= 25
    assert sorted(names, key=str.lower) == sorted(set(names), key=str.lower)
    for name in names:
        assert getattr(medfuse, name).__doc__, name


@pytest.mark.parametrize("old", ["medfuse.uptake", "medfuse.dicom.send", "medfuse.gesenet.losses"])
def test_modules_that_moved_answer_to_their_old_names(old):
    import importlib

    with pytest.warns(DeprecationWarning, match=f"{old} is now medfuse"):
        assert importlib.import_module(old).__name__ != old
