"""The authors' own sample: three H&E tiles with forty measured proteins, read in place."""

import re

import numpy as np
import pytest

from ml.hex.label_tables import check_scaling, read_label_table, write_label_table
from ml.hex.panel import HEX_PANEL
from ml.hex.released import HexSplit, read_released_folder, write_split

pytestmark = pytest.mark.realdata


def test_the_sample_table_is_read_and_written_again(data, tmp_path):
    """Byte for byte but for what the authors' table lost in a spreadsheet: its line ends and the case of exponents."""
    path = data / "imc/hex_pairs/channel_registered/0.csv"
    table = read_label_table(path, dtype=np.float64)
    assert table.slides == ["0"] and table.markers == HEX_PANEL and table.index.tolist() == [0, 1, 2]
    assert table.xy.tolist() == [[60582, 47052], [60582, 47276], [60806, 47052]]
    write_label_table(tmp_path / "0.csv", table)
    stored = path.read_bytes().replace(b"\r\n", b"\n")
    stored = re.sub(rb"(?<=\d)E(?=-\d)", b"e", stored)
    assert (tmp_path / "0.csv").read_bytes().rstrip(b"\n") == stored.rstrip(b"\n")


def test_its_labels_are_means_of_224_px_divided_by_256(data):
    """Spec 1.2: an 8-bit mean times 224^2 is a whole number; the sample is that over 256, not scaled by percentiles.

    Values below 1e-4 were shortened to three digits on the way, so they say nothing.
    """
    table = read_label_table(data / "imc/hex_pairs/channel_registered/0.csv", dtype=np.float64)
    sums = table.values[table.values > 1e-4] * 256 * 224**2
    assert len(sums) > 100 and np.abs(sums - np.rint(sums)).max() < 0.01 and table.scale_hint == "0..1"
    assert table.values.max() == pytest.approx(0.13812178)
    check_scaling(table, "none")


def test_the_sample_folder_gives_tiles_with_labels(data, tmp_path):
    write_split(tmp_path / "splits_0.csv", HexSplit((("NSCLC-1", "0"),), (("NSCLC-2", "1"),)))
    images, labels, patients, slides, markers = read_released_folder(data / "imc/hex_pairs", tmp_path / "splits_0.csv")
    assert images.shape == (3, 224, 224, 3) and 90 < images.mean() < 250 and images.std() > 10
    assert labels.shape == (3, 40) and markers == HEX_PANEL
    assert patients.tolist() == ["NSCLC-1"] * 3 and slides.tolist() == ["0"] * 3
