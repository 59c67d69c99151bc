"""A store of its own, and images to bring in."""

from pathlib import Path

import pytest
from multiplex_pictures import NAME, draw, write_ome


@pytest.fixture
def store_folder(people, settings, tmp_path: Path) -> Path:
    from django.core.cache import cache

    settings.STORE_ROOT = tmp_path / "store"
    cache.clear()
    return settings.STORE_ROOT


@pytest.fixture
def ome(tmp_path: Path) -> Path:
    """A sound OME-TIFF under the patient's name."""
    return write_ome(tmp_path / f"{NAME}.ome.tif", draw())


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """An image without channel names and um per pixel."""
    return write_ome(tmp_path / "nameless.ome.tif", draw(seed=1), names=None, mpp=None)


@pytest.fixture
def here(monkeypatch):
    """The child's command runs in this process: the same code without the start of a process (which other tests go through)."""
    import io
    import json
    from contextlib import redirect_stdout

    from ml.multiplex import isolated
    from ml.multiplex.convert import main
    from ml.slides.isolate import ChildResult

    def run(arguments, seconds, memory_mb, tick=None):
        out = io.StringIO()
        with redirect_stdout(out):
            main(arguments[1:])
        return ChildResult("ok", json.loads(out.getvalue()), "")

    monkeypatch.setattr(isolated, "run_isolated", run)


@pytest.fixture
def cells_here(monkeypatch):
    """The same for the command that brings cells in."""
    import io
    import json
    from contextlib import redirect_stdout

    from ml.multiplex import cells
    from ml.slides.isolate import ChildResult

    def run(arguments, seconds, memory_mb, tick=None):
        out = io.StringIO()
        with redirect_stdout(out):
            cells.main(arguments[1:])
        return ChildResult("ok", json.loads(out.getvalue()), "")

    monkeypatch.setattr(cells, "run_isolated", run)
