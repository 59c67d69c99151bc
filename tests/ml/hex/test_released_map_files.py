"""Files of the authors' pipeline: read, written, and refused with a sentence where MICA would see black pictures or another panel."""

import h5py
import numpy as np
import pytest

from ml.hex.errors import HexDataError
from ml.hex.released_maps import (
    as_virtual_map,
    check_scale,
    magnification,
    read_map_file,
    read_predictions,
    released_map,
    released_step,
    write_map_file,
    write_predictions,
)

COORDS = np.array([(0, 0), (224, 0), (230, 5), (0, 448), (9000, 0)])
VALUES = np.linspace(0.1, 0.9, 10, dtype=np.float32).reshape(5, 2)


@pytest.mark.parametrize(
    ("mpp", "power", "step"), [(0.1, 80, 448), (0.2, 40, 224), ("0.2527", 40, 224), (None, 40, 224), (0.4, 20, 112), (0.5990, 20, 112)]
)
def test_the_magnification_is_read_from_the_um_per_pixel(mpp, power, step):
    assert (magnification(mpp), released_step(mpp)) == (power, step)


@pytest.mark.parametrize("mpp", [0.3, 0.39, 0.6, 2.0])
def test_between_the_magnifications_it_is_taken_for_40x_and_said_so(mpp):
    with pytest.warns(UserWarning, match="no magnification of the released code"):
        assert released_step(mpp) == 224


def test_the_later_tile_wins_and_tiles_beyond_the_slide_are_skipped():
    found = released_map(COORDS, VALUES, (700, 500), 0.25)
    assert found.shape == (3, 4, 2) and found.dtype == np.float16
    expected = np.zeros((3, 4, 2), np.float16)
    expected[0, 0], expected[0, 1], expected[2, 0] = VALUES[0], VALUES[2], VALUES[3]
    np.testing.assert_array_equal(found, expected)


def test_a_released_map_becomes_ours_with_background_told_from_zero():
    laid = as_virtual_map(released_map(COORDS, VALUES, (700, 500), 0.25), ("a", "b"), 0.25)
    assert (laid.pitch_um, laid.step_px0, laid.origin_px0, laid.names) == (56, 224, (0, 0), ("a", "b"))
    assert np.isfinite(laid.values[0]).sum() == 3 and laid.values[1, 2, 0] == np.float16(VALUES[3, 1])


def test_what_is_written_is_read_again(tmp_path):
    write_predictions(tmp_path / "S1.h5", VALUES, COORDS)
    with h5py.File(tmp_path / "S1.h5") as file:
        assert {name: file[name].shape for name in file} == {"codex_prediction": (5, 2), "coords": (5, 2)}
    values, coords = read_predictions(tmp_path / "S1.h5", ("a", "b"))
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_array_equal(coords, COORDS)
    found = released_map(coords, values, (700, 500))
    write_map_file(tmp_path / "S1.svs.npy", found)
    np.testing.assert_array_equal(read_map_file(tmp_path / "S1.svs.npy", ("a", "b")), found)


@pytest.mark.parametrize(
    ("values", "coords", "code"),
    [
        (VALUES, COORDS[:4], "predictions_shape"),
        (VALUES[0], COORDS, "predictions_shape"),
        (VALUES[:0], COORDS[:0], "predictions_shape"),
        (np.where(VALUES > 0.8, np.nan, VALUES), COORDS, "not_finite"),
        (VALUES, np.where(COORDS > 8000, np.inf, COORDS), "not_finite"),
    ],
)
def test_predictions_that_are_none_are_refused(values, coords, code):
    with pytest.raises(HexDataError) as refused:
        released_map(coords, values, (700, 500))
    assert refused.value.code == code and refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")


@pytest.mark.parametrize(("factor", "code"), [(255, "scale_0_255"), (1 / 255**2, "scale_too_small"), (0, "scale_too_small")])
def test_the_scale_trap_is_told_before_it_gives_black_pictures(tmp_path, factor, code):
    """The released sample divides 0..255 by 255 twice: at 8 bits every picture of it is zero."""
    write_predictions(tmp_path / "S1.h5", VALUES * factor, COORDS)
    released = released_map(COORDS, VALUES * factor, (700, 500))
    np.save(tmp_path / "S1.npy", released)
    if factor < 1:
        assert not np.round(np.clip(released, 0, 1) * 255).astype(np.uint8).any()
    for read in (lambda: read_predictions(tmp_path / "S1.h5"), lambda: read_map_file(tmp_path / "S1.npy")):
        with pytest.raises(HexDataError) as refused:
            read()
        assert refused.value.code == code and refused.value.sentence.endswith(".")
    check_scale(VALUES / 256)  # labels divided by 256 are dim, and not black


def test_another_panel_and_broken_files_are_named(tmp_path):
    write_predictions(tmp_path / "S1.h5", VALUES, COORDS)
    write_map_file(tmp_path / "S1.npy", released_map(COORDS, VALUES, (700, 500)))
    np.save(tmp_path / "whole.npy", np.zeros((3, 3, 2), np.uint8))
    np.save(tmp_path / "flat.npy", np.ones((3, 3)))
    (tmp_path / "text.h5").write_text("nothing")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file["coords"] = COORDS
    cases = [
        (lambda: read_predictions(tmp_path / "S1.h5", ("a", "b", "c")), "panel_mismatch"),
        (lambda: read_map_file(tmp_path / "S1.npy", ("a",)), "panel_mismatch"),
        (lambda: read_predictions(tmp_path / "half.h5"), "file_incomplete"),
        (lambda: read_predictions(tmp_path / "text.h5"), "file_unreadable"),
        (lambda: read_predictions(tmp_path / "none.h5"), "file_unreadable"),
        (lambda: read_map_file(tmp_path / "text.h5"), "file_unreadable"),
        (lambda: read_map_file(tmp_path / "whole.npy"), "file_unreadable"),
        (lambda: read_map_file(tmp_path / "flat.npy"), "map_shape"),
        (lambda: magnification("unknown"), "mpp_invalid"),
        (lambda: magnification(-1), "mpp_invalid"),
    ]
    for call, code in cases:
        with pytest.raises(HexDataError) as refused:
            call()
        assert refused.value.code == code, code
