"""The rules of the house, read off the code itself."""

import ast
from pathlib import Path

import pytest

import medfuse

PACKAGE = Path(medfuse.__file__).parent

ONE_DOOR = {
    # verify asks foreign readers what they see: through our own doors it would hear only us.
    "SimpleITK": {"registration", "verify"},
    "nibabel": {"nifti", "verify"},
    "gdcm": {"verify"},
    "pydicom": {"dicom"},
    "dicomanonymizer": {"dicom"},
    "pynetdicom": {"dicom"},
    "dicomweb_client": {"dicom"},
    "requests": {"dicom"},
    "matplotlib": {"report"},
    "typer": {"cli"},
    "rich": {"cli"},
    "safetensors": {"gesenet"},
    "yaml": {"gesenet"},
    "openvino": {"gesenet"},
    "numba": {"gesenet"},
    "llvmlite": {"gesenet"},
}

ORDER = [
    *(
        "errors",
        "threads",
        "machine",
        "grid",
        "volume",
        "export",
        "intensity",
        "foreground",
        "provenance",
        "slices",
        "sidecar",
    ),
    *(
        "dicom",
        "nifti",
        "uptake",
        "registration",
        "study",
        "colour",
        "metrics",
        "phantom",
        "gesenet",
        "monai_io",
        "transforms",
        "report",
        "fused",
        "fusion",
        "bench",
        "train",
        "scoring",
        "verify",
        "cli",
    ),
]
"""A module imports only modules that stand before it."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Modules imported when the code runs; imports for type checking alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "medfuse":
            yield from (f"medfuse.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_each_dependency_has_one_door():
    for path, room in modules():
        for name in imported(path):
            doors = ONE_DOOR.get(name.split(".")[0])
            assert doors is None or room in doors, f"{path.name} imports {name}"


def test_imports_run_one_way():
    for path, room in modules():
        if room in ("__init__", "__main__", "cli"):
            continue
        for name in imported(path):
            if name.startswith("medfuse.") and name.split(".")[1] != room:
                assert ORDER.index(name.split(".")[1]) < ORDER.index(room), f"{path} imports {name}"


def test_every_room_has_its_place_in_the_order():
    assert {room for _, room in modules()} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("path", [path for path, _ in modules()], ids=lambda path: path.name)
def test_files_hold_one_job(path):
    assert len(path.read_text().splitlines()) <= 360


def test_functions_hold_one_job():
    for path, _ in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                assert node.end_lineno - first.lineno < 60, f"{path.name}: {node.name}"


def test_the_public_face_is_small_and_whole():
    assert len(medfuse.__all__) <= 20
    assert sorted(medfuse.__all__, key=str.lower) == sorted(set(medfuse.__all__), key=str.lower)
    for name in medfuse.__all__:
        assert hasattr(medfuse, name)


def test_every_public_name_is_explained():
    for name in medfuse.__all__:
        assert getattr(medfuse, name).__doc__, name
