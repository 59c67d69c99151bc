"""Masks of labels as programs write them; what is no mask of this image is refused, and a lost part is never read as no cell."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml.multiplex.mask_files import outline_tile, outlines, read_labels, write_mask
from ml.multiplex.masks import cell_areas, mask_facts, mask_findings, read_mask
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError


@pytest.fixture
def labels():
    """(60, 80): cells of 5 x 5 px with ids 7, 14, 21 ..."""
    found = np.zeros((60, 80), np.int32)
    for i, (y, x) in enumerate(((y, x) for y in range(2, 55, 8) for x in range(2, 75, 8)), 1):
        found[y : y + 5, x : x + 5] = 7 * i
    return found


def refused(code, *args):
    with pytest.raises(SlideError) as error:
        read_mask(*args)
    assert error.value.code == code
    return error.value


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "float32", "float64"])
def test_a_tiff_of_whole_numbers_is_a_mask(tmp_path, labels, dtype):
    tifffile.imwrite(tmp_path / "mask.tif", labels.astype(dtype), compression="zlib")
    found = read_mask(tmp_path / "mask.tif", (80, 60))
    assert found.dtype == np.int32 and np.array_equal(found, labels)


def test_an_npz_with_the_key_mask_is_one(tmp_path, labels):
    np.savez_compressed(tmp_path / "a.npz", mask=labels[None].astype(np.uint16), other=np.zeros(3))
    assert np.array_equal(read_mask(tmp_path / "a.npz", (80, 60)), labels)
    np.savez(tmp_path / "b.npz", labels=labels)
    assert "labels" in refused(Code.MASK_UNREADABLE, tmp_path / "b.npz").sentence
    np.savez(tmp_path / "c.npz", mask=np.array([{"a": 1}], object))
    refused(Code.MASK_UNREADABLE, tmp_path / "c.npz")


def test_what_is_no_mask_of_this_image_is_refused(tmp_path, labels):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, labels.astype(np.uint16))
    wrong = refused(Code.MASK_SIZE_DIFFERS, path, (81, 60))
    assert "80 x 60" in wrong.sentence and "81 x 60" in wrong.sentence
    tifffile.imwrite(path, labels + 0.5)
    refused(Code.MASK_NOT_LABELS, path)
    tifffile.imwrite(path, np.where(labels == 7, np.nan, labels).astype(np.float32))
    refused(Code.MASK_NOT_LABELS, path)
    tifffile.imwrite(path, -labels)
    refused(Code.MASK_NOT_LABELS, path)
    tifffile.imwrite(path, (labels > 0).astype(np.uint8) * 255)
    assert "70 separate pieces" in refused(Code.MASK_NOT_LABELS, path).sentence
    tifffile.imwrite(path, np.stack([labels, labels]).astype(np.uint16), photometric="minisblack")
    refused(Code.MASK_NOT_LABELS, path)
    tifffile.imwrite(path, np.zeros((60, 80), np.uint16))
    refused(Code.MASK_EMPTY, path)
    np.savez(tmp_path / "bool.npz", mask=labels > 0)
    refused(Code.MASK_NOT_LABELS, tmp_path / "bool.npz")
    path.write_bytes(b"II*\x00" + bytes(40))
    refused(Code.MASK_UNREADABLE, path)
    path.write_bytes(b"")
    refused(Code.EMPTY_FILE, path)
    (tmp_path / "mask.txt").write_text("1,2\n3,4\n")
    refused(Code.MASK_UNREADABLE, tmp_path / "mask.txt")
    refused(Code.FILE_MISSING, tmp_path / "none.tif")


def test_areas_say_whether_the_um_per_pixel_can_be_right(labels):
    ids, areas = cell_areas(labels)
    assert list(ids[:3]) == [7, 14, 21] and len(ids) == 70 and set(areas) == {25}
    large = labels.astype(np.int64) * 1_000_000
    assert np.array_equal(cell_areas(large.astype(np.int32))[0], ids * 1_000_000)
    facts = mask_facts(labels, 1.0)
    assert facts["n_cells"] == 70 and facts["median_um2"] == 25 and facts["covered"] == pytest.approx(70 * 25 / 4800)
    assert mask_findings("m", facts, 1.0) == []
    for mpp, said in ((0.25, "1.56 um2"), (10.0, "2.5e+03 um2")):
        (found,) = mask_findings("m", mask_facts(labels, mpp), mpp)
        assert found.code == Code.CELL_AREA_IMPLAUSIBLE and found.severity == "error" and said in found.sentence


def test_kept_masks_are_read_by_parts_and_a_lost_part_is_told(tmp_path):
    labels = np.arange(1, 1101 * 700 + 1, dtype=np.int32).reshape(1101, 700)
    write_mask(tmp_path / "mask.zarr", labels)
    assert np.array_equal(read_labels(tmp_path / "mask.zarr"), labels)
    assert np.array_equal(read_labels(tmp_path / "mask.zarr", 500, 600, 900, 900), labels[500:, 600:])
    (tmp_path / "mask.zarr" / "c" / "0" / "0").unlink()
    with pytest.raises(SlideError) as lost:
        read_labels(tmp_path / "mask.zarr")
    assert lost.value.code == Code.MASK_UNREADABLE
    assert read_labels(tmp_path / "mask.zarr", 512, 0, 10, 10).any()
    with pytest.raises(SlideError) as gone:
        read_labels(tmp_path / "nothing.zarr")
    assert gone.value.code == Code.FILE_MISSING


def test_outlines_lie_inside_the_cells_and_tiles_fit_without_a_seam(tmp_path):
    labels = np.zeros((300, 400), np.int32)
    labels[250:262, 250:262], labels[250:262, 262:270] = 5, 9
    edge = outlines(labels)
    assert (
        edge[250, 255]
        and edge[255, 261]
        and edge[255, 262]
        and not edge[255, 256]
        and not edge[249].any()
        and not (edge & (labels == 0)).any()
    )
    write_mask(tmp_path / "mask.zarr", labels)

    def tile(level, col, row):
        return np.asarray(Image.open(io.BytesIO(outline_tile(tmp_path / "mask.zarr", (400, 300), level, col, row))))[..., 3] > 0

    whole = np.block([[tile(0, 0, 0), tile(0, 1, 0)], [tile(0, 0, 1), tile(0, 1, 1)]])
    assert np.array_equal(whole, edge)
    assert tile(1, 0, 0).shape == (150, 200) and tile(1, 0, 0).any()
    with pytest.raises(SlideError):
        outline_tile(tmp_path / "mask.zarr", (400, 300), 0, 2, 0)
    with pytest.raises(SlideError):
        outline_tile(tmp_path / "mask.zarr", (400, 300), 10**9, 0, 0)


def test_masks_of_real_images(data):
    pancreas = read_mask(data / "imc/pancreas_imc/E34_mask.tiff", (100, 100))
    ids, _ = cell_areas(pancreas)
    assert len(ids) == 113 and ids[0] == 824 and ids[-1] == 1312  # numbers of the whole cohort, not 1..n
    assert mask_findings("", mask_facts(pancreas, 1.0), 1.0) == []
    steinbock = read_mask(data / "imc/imc_testdata/20210305_NE_mockData1/mask_001.tiff", (60, 60))
    assert len(cell_areas(steinbock)[0]) == 17
    assert refused(Code.MASK_NOT_LABELS, next((data / "imc/vectra_fihc4").glob("*seg_maps.tif"))).sentence.startswith("The file holds 4")
