"""The layout of VirTues' example: every table of it is read and held against the others; what is missing is named."""

import shutil

import numpy as np
import pandas as pd
import pytest
from zarr_images import write_zarr

from ml.multiplex.cell_tables import ID_COLUMN
from ml.multiplex.masks import cell_areas
from ml.multiplex.spora import SporaDataset
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError

TISSUE = "cords2024cancer_ocmzljpb_0001"


@pytest.fixture
def example(data):
    return data / "imc/virtues_example"


@pytest.fixture
def made(tmp_path):
    """A data set of two tissues with three channels, one of which the second lacks."""
    rng = np.random.default_rng(0)
    names = ["H3", "CD3", "LILRA5"]
    channels = {"channel_name": names, "qc_pass": [True, False, True], "uniprot_id": ["P68431", "P07766", "A6NI73"]}
    channels |= {"is_nuclear_marker": [True, False, False]}
    measured = pd.DataFrame([[True, True, True], [True, False, True]], index=pd.Index(["d_p1_0", "d_p2_0"]), columns=names)
    tables = {
        "imc/channels.parquet": pd.DataFrame(channels),
        "imc/channels_per_tissue.parquet": measured,
        "metadata/tissues.parquet": pd.DataFrame(
            {
                "tissue_id": ["d_p1_0", "d_p2_0"], "patient_id": ["p1", "p2"], "specimen_id": ["0", "0"], "modality": "imc",
                "split": ["train", "test"], "age": [50.0, None],
            }
        ),
        "metadata/cells.parquet": pd.DataFrame({"tissue_id": ["d_p1_0"] * 2, "cell_id": [9, 4], "cell_type": ["T", "B"]}),
        "tiling/1_0mpp/default/128_tile_coordinates.parquet": pd.DataFrame(
            {"tissue_id": ["d_p1_0"], "tile_id": [0], "row": [0], "col": [64]}
        ),
    }  # fmt: skip
    for name, table in tables.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / name)
    mask = np.zeros((140, 200), np.uint16)
    mask[5:10, 5:10], mask[30:36, 40:46] = 4, 9
    for kind, values in (("cell_masks/instances", mask), ("tissue_masks", mask >= 0)):
        (tmp_path / "segmentations/1_0mpp" / kind).mkdir(parents=True)
        for tissue in ("d_p1_0", "d_p2_0"):
            np.savez(tmp_path / "segmentations/1_0mpp" / kind / f"{tissue}.npz", mask=values)
    pictures = {"d_p1_0": rng.random((3, 140, 200), np.float32), "d_p2_0": rng.random((2, 140, 200), np.float32)}
    for tissue, picture in pictures.items():
        shown = tuple(n for n, there in zip(names, measured.loc[tissue]) if there)
        write_zarr(
            tmp_path / f"imc/1_0mpp/images/{tissue}.ome.zarr", picture, names=shown, um=1.0, shards=(1, 256, 256), chunks=(1, 64, 64)
        )
    return tmp_path, pictures


def refused(code, function, *args):
    with pytest.raises(SlideError) as error:
        function(*args)
    assert error.value.code == code
    return error.value


def test_the_published_example_all_but_its_pixels(example):
    found = SporaDataset(example)
    assert found.modality == "imc" and list(found.tissues) == [TISSUE] and len(found.channels) == 43
    tissue = found.tissue(TISSUE)
    assert (tissue.patient_id, tissue.specimen_id, tissue.split) == ("ocmzljpb", "0001", "test")
    assert tissue.clinical["cancer_type"] == "Adenocarcinoma" and "R" not in tissue.clinical
    channels = found.channels_of(TISSUE)
    assert [c.name for c in channels][:3] == ["MPO", "S100", "SMA"] and {c.name for c in channels if c.nuclear} == {
        "H3",
        "Iridium",
        "Iridium (V2)",
    }
    assert len(found.model_channels(TISSUE)) == 40
    cells, mask = found.cells(TISSUE), found.cell_mask(TISSUE)
    assert len(cells) == 2185 and np.array_equal(cells[ID_COLUMN].to_numpy(), cell_areas(mask)[0])
    assert sorted(cells.nunique()[["cell_category", "cell_type", "cell_subtype"]]) == [6, 17, 19]
    tissue_mask = found.tissue_mask(TISSUE)
    assert mask.shape == tissue_mask.shape == (697, 597) and tissue_mask.mean() == pytest.approx(0.839857, abs=1e-6)
    scale = found.standardisation(TISSUE)
    assert scale.channels == tuple(c.name for c in channels) and (scale.std > 0).all() and (scale.q99 >= 0).all()
    assert scale.mean[3] == pytest.approx(0.720679, abs=1e-5) and scale.std[3] == pytest.approx(0.909765, abs=1e-5)
    tiles = found.tiles(TISSUE)
    assert tiles.shape == (27, 2) and (tiles >= 0).all() and (tiles.max(0) + 128 <= (697, 597)).all()
    covered = np.zeros_like(tissue_mask)
    for row, col in tiles:
        covered[row : row + 128, col : col + 128] = True
    assert (covered & tissue_mask).sum() / tissue_mask.sum() == pytest.approx(0.982677, abs=1e-6)


def test_its_absent_pixels_are_told_and_not_zeros(example):
    error = refused(Code.ZARR_CHUNKS_MISSING, SporaDataset(example).image, TISSUE)
    assert "All of the" in error.sentence


def test_an_image_comes_with_its_masks_and_measured_channels_only(made):
    folder, pictures = made
    found = SporaDataset(folder)
    whole = found.image("d_p1_0")
    assert whole.markers == ("H3", "CD3", "LILRA5") and np.array_equal(whole.values, pictures["d_p1_0"]) and whole.um_per_px == 1.0
    assert set(np.unique(whole.mask)) == {0, 4, 9} and whole.tissue.all()
    assert found.image("d_p2_0").markers == ("H3", "LILRA5")
    chosen = found.image("d_p1_0", found.model_channels("d_p1_0"))
    assert chosen.markers == ("H3", "LILRA5") and np.array_equal(chosen.values, pictures["d_p1_0"][[0, 2]])
    assert list(found.cells("d_p1_0").cell_id) == [4, 9] and found.cells("d_p2_0").empty
    assert found.patients == {"p1": ["d_p1_0"], "p2": ["d_p2_0"]} and found.tissue("d_p2_0").clinical == {}
    assert found.tiles("d_p1_0").tolist() == [[0, 64]]


def test_what_is_missing_or_does_not_fit_is_named(made):
    folder, _ = made
    found = SporaDataset(folder)
    refused(Code.SPORA_TISSUE_UNKNOWN, found.cells, "d_p3_0")
    assert "image_level" in refused(Code.SPORA_FILE_MISSING, found.standardisation, "d_p1_0").sentence
    assert refused(Code.SPORA_FILE_MISSING, SporaDataset, folder / "metadata").where == "*/channels.parquet"
    refused(Code.SPORA_FILE_MISSING, SporaDataset, folder, "codex")
    shutil.rmtree(folder / "imc/1_0mpp/images/d_p2_0.ome.zarr")
    shutil.copytree(folder / "imc/1_0mpp/images/d_p1_0.ome.zarr", folder / "imc/1_0mpp/images/d_p2_0.ome.zarr")
    assert "3 channels, but 2 were measured" in refused(Code.SPORA_TABLE_INVALID, found.image, "d_p2_0").sentence
    (folder / "metadata/cells.parquet").write_bytes(b"PAR1 broken")
    refused(Code.SPORA_TABLE_INVALID, found.cells, "d_p1_0")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metadata/tissues.parquet", lambda t: t.assign(patient_id="p1")),  # one patient, both splits
        ("metadata/tissues.parquet", lambda t: t.assign(split="validation")),
        ("metadata/tissues.parquet", lambda t: pd.concat([t, t])),
        ("metadata/tissues.parquet", lambda t: t.drop(columns="patient_id")),
        ("imc/channels.parquet", lambda t: t.assign(uniprot_id=["P68431", "CD3E", None])),
        ("imc/channels.parquet", lambda t: t.assign(channel_name=["H3", "H3", "LILRA5"])),
        ("imc/channels_per_tissue.parquet", lambda t: t[["CD3", "H3", "LILRA5"]]),
        ("imc/channels_per_tissue.parquet", lambda t: t.drop(columns="CD3")),
    ],
)
def test_tables_that_contradict_themselves_are_refused(made, name, change):
    folder, _ = made
    change(pd.read_parquet(folder / name)).to_parquet(folder / name)
    assert refused(Code.SPORA_TABLE_INVALID, SporaDataset, folder).where.endswith(name.rpartition("/")[2])
