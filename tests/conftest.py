"""Shared fixtures: folders of reference values and of real files, found by environment variable or beside the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        reason = f"parity: {variable} names no folder ({folder.name} not found)"
        if os.environ.get("REQUIRE_PARITY") == "1":
            pytest.fail(reason + ", and REQUIRE_PARITY=1 asks for it.")
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference values made by the authors' own code."""
    return _folder("TISSUEBOARD_GOLDEN", "golden")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real slides, assays, cohorts and hostile files."""
    return _folder("TISSUEBOARD_DATA", "data")
