"""HEX from the command line: the authors' folder in, a model, a map of a slide and the authors' files out."""

import numpy as np
import pytest
import torch
from PIL import Image
from slide_files import write_svs

from ml.hex.__main__ import main
from ml.hex.checkpoint import load
from ml.hex.label_tables import LabelTable, write_label_table
from ml.hex.released_maps import read_map_file, read_predictions
from ml.hex.released_weights import export_released
from ml.slides.map_files import read_map

NAMES = ("nuclei", "eosin", "free matrix")


@pytest.fixture
def folder(toy, tmp_path):
    """The toy tissue as the authors lay out theirs: a table and a folder of pictures per slide, and folds by patient."""
    root = tmp_path / "data"
    for slide in dict.fromkeys(toy.patients):
        rows = np.flatnonzero(np.array(toy.patients) == slide)
        (root / "he_patches" / slide).mkdir(parents=True)
        (root / "channel_registered").mkdir(exist_ok=True)
        for index, row in enumerate(rows):
            Image.fromarray(toy.images[row]).save(root / "he_patches" / slide / f"{slide}_{index}.png")
        n = len(rows)
        xy = np.stack([np.arange(n) * 224, np.zeros(n)], 1).astype(np.int64)
        table = LabelTable(np.full(n, slide), np.arange(n), xy, toy.labels[rows], NAMES)
        write_label_table(root / "channel_registered" / f"{slide}.csv", table)
    people = sorted(set(toy.patients))
    for k in (0, 1):
        train, val = people[1 - k :: 2], people[k::2]
        lines = ["patient_train,train,patient_val,val"] + [f"{t},{t},{v},{v}" for t, v in zip(train, val)]
        (root / f"splits_{k}.csv").write_text("\n".join(lines))
    return root


def test_from_the_authors_folder_to_a_map_in_their_files(folder, tmp_path, capsys):
    out = tmp_path / "model"
    arguments = ["fit", str(folder), "--out", str(out), "--markers", ",".join(NAMES), "--set", "epochs=6", "--set", "batch=32"]
    assert main(arguments) == 0
    assert float(capsys.readouterr().out.rpartition(":")[2]) > 0.7
    weights = load(out)
    assert weights.markers == NAMES and [f.facts["patients"] for f in weights.folds] == [3, 3], "the folds are those of the split files"
    slide = write_svs(tmp_path / "s.svs")
    assert main(["map", str(out), str(slide), "--out", str(tmp_path / "maps"), "--stride-um", "28", "--as-released"]) == 0
    virtual = read_map(tmp_path / "maps" / "s.ome.zarr")
    assert virtual.names == NAMES and virtual.pitch_um == pytest.approx(28, rel=0.02)
    values, coords = read_predictions(tmp_path / "maps" / "s.h5")
    assert values.shape[1] == 3 and len(values) == len(coords) and read_map_file(tmp_path / "maps" / "s.npy").shape[2] == 3


def test_a_released_checkpoint_becomes_a_model_that_draws_maps(toy_fit, tmp_path, capsys):
    torch.save(export_released(toy_fit.weights.folds[0].model), tmp_path / "checkpoint.pth")
    given = ["convert", str(tmp_path / "checkpoint.pth"), "--out", str(tmp_path / "m"), "--encoder", "compact-resnet-48"]
    assert main([*given, "--markers", "a,b"]) == 1 and "3 proteins and the panel names 2" in capsys.readouterr().err
    assert main([*given, "--markers", "a,b,c"]) == 0
    assert main(["map", str(tmp_path / "m"), str(write_svs(tmp_path / "s.svs")), "--out", str(tmp_path)]) == 0
    assert "out of range: unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "told"), [(["--set", "epochs=-1"], "epochs: "), (["--markers", "a"], "names"), (["--set", "encoder=musk"], "musk")]
)
def test_what_cannot_be_trained_is_said_in_a_sentence(folder, tmp_path, capsys, more, told):
    arguments = ["fit", str(folder), "--out", str(tmp_path / "m"), "--markers", ",".join(NAMES), *more]
    assert main(arguments) == 1 and told in capsys.readouterr().err
