"""Maps as the authors' script assembles them, number by number (golden/mica/README.md: exact)."""

import contextlib

import numpy as np
import pytest

from ml.hex.released_maps import magnification, read_map_file, read_predictions, released_map, write_map_file, write_predictions

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", ["40x", "20x", "unknown"])
def test_the_map_is_the_authors(golden, name, tmp_path):
    with np.load(golden / "mica" / f"virtual_map_{name}.npz") as file:
        coords, predictions, size, mpp, expected = (file[key] for key in ("coords", "codex_prediction", "dimensions", "mpp", "map"))
    write_predictions(tmp_path / "slide.h5", predictions, coords)
    predictions, coords = read_predictions(tmp_path / "slide.h5")
    with pytest.warns(UserWarning, match="no magnification") if name == "unknown" else contextlib.nullcontext():
        found = released_map(coords, predictions, size, str(mpp))
    assert found.dtype == expected.dtype == np.float16
    np.testing.assert_array_equal(found, expected)
    write_map_file(tmp_path / "slide.npy", found)
    np.testing.assert_array_equal(read_map_file(tmp_path / "slide.npy"), expected)


def test_the_files_are_those_magnifications(golden):
    for name, expected in (("40x", 40), ("20x", 20)):
        with np.load(golden / "mica" / f"virtual_map_{name}.npz") as file:
            assert magnification(str(file["mpp"])) == expected
