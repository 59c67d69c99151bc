"""VirTues from the command line: a table of images or the authors' layout in; a model, figures and a painted marker out."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from ml.virtues.__main__ import main
from ml.virtues.cohort_files import read_cohort
from ml.virtues.embedding_files import read_embedding
from ml.virtues.errors import VirtuesError
from ml.virtues.weights import load

NETWORK = ("model_dim=16", "feedforward_dim=16", "encoder_pattern=hv", "decoder_pattern=f", "num_encoder_heads=2", "num_decoder_heads=2")
SETTINGS = ["crop=32", "subimage=40", "epochs=2", "batch=4", *(f"network.{n}" for n in (*NETWORK, "marker_embedding_dim=16"))]


@pytest.fixture
def folder(tmp_path, draw_counts):
    """Six patients, an OME-TIFF each at 0.5 um; images.csv names them, panel.csv the protein of a channel that the house does not know."""
    root = tmp_path / "lung"
    root.mkdir()
    rows = []
    for i in range(6):
        image = draw_counts(i, range(5))
        names = [*image.markers[:4], "odd name"]
        values = image.values.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint16)
        metadata = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(root / f"{i}.ome.tiff", values, metadata=metadata)
        rows.append({"file": f"{i}.ome.tiff", "patient": str(i)})
    for name, table in (("images.csv", rows), ("panel.csv", [{"name": "odd name", "uniprot": "P08670"}])):
        with (root / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, table[0].keys())
            writer.writeheader()
            writer.writerows(table)
    return root


@pytest.fixture
def vectors(tmp_path, bank):
    place = tmp_path / "bank"
    place.mkdir()
    bank.save(place / "all.safetensors")
    return place


def test_from_a_folder_of_images_to_a_model_its_figures_and_a_painted_marker(folder, vectors, tmp_path, capsys):
    out, sets = tmp_path / "model", [part for s in SETTINGS for part in ("--set", s)]
    assert main(["pretrain", str(folder), "--bank", str(vectors), "--out", str(out), *sets]) == 0
    assert "4 patients, 5 proteins" in capsys.readouterr().out and not (out / "running").exists()
    kept = load(out)
    assert kept.provenance["markers"] == sorted(["P07766", "P01730", "P01732", "P34810", "P08670"]) and set(kept.standards) == {"lung"}
    figures = tmp_path / "figures.json"
    assert main(["evaluate", str(out), str(folder), "--out", str(figures), "--set", "bootstrap=5"]) == 0
    told = json.loads(figures.read_text())["lung"]
    assert set(told) == {"independent", "marker", "niche"} and told["marker"]["units"] == 2, "two of six patients were held out"
    painted = tmp_path / "ck.npy"
    more = ["0.ome.tiff", "P02533", "--bank", str(vectors), "--out", str(painted)]
    assert main(["stain", str(out), str(folder), *more]) == 0
    assert np.load(painted).shape == (48, 48) and "Training never saw this protein" in capsys.readouterr().out
    seen = tmp_path / "seen"
    assert main(["embed", str(out), str(folder), "--out", str(seen), "--set", "max_medoids=2"]) == 0
    files = sorted(one.name for one in seen.iterdir())
    assert files == [f"lung-{i}.ome.tiff.h5" for i in range(6)], "no image has a mask, and no half-done work is left"
    found = read_embedding(seen / files[0])
    assert found.niches.shape[1] == 16 and found.boxes[0, 2:].tolist() == [32, 32] and len(found.proteins) == 5


def test_pixels_are_kept_at_the_pitch_and_read_once(folder, tmp_path):
    cohort = read_cohort([folder], 1.0, tmp_path / "cache")
    assert cohort.images[0].values.shape == (5, 48, 48) and isinstance(cohort.images[0].values, np.memmap)
    assert cohort.proteins[0] == ("P07766", "P01730", "P01732", "P34810", "P08670") and cohort.patients[0] == "lung/0"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "cache").iterdir())
    again = read_cohort([folder], 1.0, tmp_path / "cache")
    assert sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "cache").iterdir()) == before
    assert np.array_equal(again.images[3].values, cohort.images[3].values) and again.split is None


def test_a_split_in_the_table_is_taken_when_it_is_whole(folder, tmp_path):
    table = pd.read_csv(folder / "images.csv", dtype=str)
    table.assign(split=["test"] + ["train"] * 5, dataset=["a"] * 3 + ["b"] * 3).to_csv(folder / "images.csv", index=False)
    cohort = read_cohort([folder], 1.0, tmp_path / "cache")
    assert cohort.split is not None and cohort.split["a/0"] == "test" and cohort.datasets == ("a",) * 3 + ("b",) * 3


@pytest.mark.realdata
def test_the_published_example_is_read_but_for_its_pixels(data, tmp_path):
    from ml.slides.findings import SlideError

    with pytest.raises(SlideError) as caught:
        read_cohort([data / "imc" / "virtues_example"], 1.0, tmp_path)
    assert "chunk" in caught.value.sentence.lower() or "file" in caught.value.sentence.lower(), "its pixels are not in the example"


@pytest.mark.parametrize(
    ("change", "told"),
    [(["--set", "epochs=0"], "epochs: "), (["--set", "network.model_dim=17"], "heads"), (["--set", "crop=36"], "does not divide")],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(folder, vectors, tmp_path, capsys, change, told):
    assert main(["pretrain", str(folder), "--bank", str(vectors), "--out", str(tmp_path / "m"), *change]) == 1
    assert told in capsys.readouterr().err


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(VirtuesError, match=r"no images.csv"):
        read_cohort([tmp_path], 1.0, tmp_path / "cache")


def test_proteins_that_cannot_be_embedded_are_said(tmp_path, capsys):
    fasta = tmp_path / "more.fasta"
    call = ["proteins", str(fasta), "--model", str(tmp_path), "--out", str(tmp_path / "bank.safetensors")]
    assert main(call) == 1 and "There is no file more.fasta." in capsys.readouterr().err
    fasta.write_text(">P10747\nMLRLL\n")
    assert main(call) == 1 and "no protein model of the layout" in capsys.readouterr().err
    assert not (tmp_path / "bank.safetensors").exists()
