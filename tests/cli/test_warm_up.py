"""``medfuse warm-up``, and what the commands say of compiling."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cli.console import steps
from medfuse.gesenet.engines import registry


def test_the_engine_is_loaded_and_its_cache_named():
    pytest.importorskip("numba")
    result = CliRunner().invoke(app, ["warm-up", "--device", "cpu", "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["engine"] == "tiled"
    assert found["device"] == "cpu"
    assert any(Path(found["cache"]).glob("run-*.bin"))
    assert found["seconds"] >= 0


def test_an_engine_that_is_not_compiled_keeps_nothing():
    result = CliRunner().invoke(app, ["warm-up", "--engine", "masked"], catch_exceptions=False)
    assert "engine   masked" in result.stdout
    assert "nothing to keep" in result.stdout


def test_code_that_nothing_keeps_is_a_failure(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(registry, "compiled_code_folder", lambda name: None)
    result = CliRunner().invoke(app, ["warm-up", "--engine", "tiled"])
    assert result.exit_code == 5
    assert "NUMBA_CACHE_DIR" in result.stderr


def test_compiling_is_announced_where_nobody_sees_bars(capsys):
    with steps() as tell:
        tell("load", 0.5)
        for share in (0.0, 0.5, 1.0):
            tell("compile", share)
    assert capsys.readouterr().err == "compiling the engine for this machine, once: about 15 s\n"
