"""Released weights of VirTues as versions: by command, with their licence, and refused in a sentence."""

import numpy as np
import pytest
import tiny_virtues as tiny
import torch
from django.core.management import CommandError, call_command

from ml.virtues.checkpoint import save_weights
from ml.virtues.config import VirtuesConfig
from ml.virtues.model import VirTues
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.virtues_weights import load_virtues


@pytest.fixture
def weights(tmp_path):
    return save_weights(VirTues(VirtuesConfig(**tiny.NETWORK)), tmp_path / "virtues-sp32")


@pytest.fixture
def bank(tmp_path):
    folder = tmp_path / "embeddings"
    folder.mkdir()
    for name in ("P07766", "P01732"):
        torch.save(torch.arange(8, dtype=torch.float32), folder / f"{name}.pt")
    return folder


def test_the_command_registers_weights_with_their_bank_and_licence(db, weights, bank, capsys):
    call_command("add_virtues", "sp32", str(weights), "--bank", str(bank))
    version = ModelVersion.objects.get(family="virtues")
    assert (version.label, version.licence, version.pitch_um) == ("released", "CC BY-NC 4.0", 1.0)
    assert version.panel == ["P01732", "P07766"] and not version.is_current and version.pretraining_overlap == "unknown"
    assert version.provenance["facts"] == {"membership": "unknown", "release": "virtues-sp32"}
    found = load_virtues(version)
    assert np.array_equal(found.bank.embedding("P07766"), np.arange(8)) and found.standards == {} and found.membership == ()
    assert "virtues_adopt" in capsys.readouterr().out
    call_command("add_virtues", "sp31", str(weights / "model.safetensors"), "--bank", str(bank), "--release", "virtues-sp31")
    assert ModelVersion.objects.get(name="sp31").licence == "MIT"
    with pytest.raises(CommandError, match="There is a virtues version named sp31 already"):
        call_command("add_virtues", "sp31", str(weights), "--bank", str(bank))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, b: (w / "config.json").unlink(), "is not a VirTues of this configuration"),
        (lambda w, b: (w / "model.safetensors").unlink(), "There is no file model.safetensors"),
        (lambda w, b: [file.unlink() for file in b.iterdir()], "There is no marker embedding"),
        (lambda w, b: torch.save(torch.ones(640), b / "P01732.pt"), "has shape"),
        (lambda w, b: [torch.save(torch.ones(640), file) for file in b.iterdir()], "have 640 numbers, the weights take 8"),
        (lambda w, b: (b / "P01732.pt").write_bytes(b"<html>"), "cannot be read as a marker embedding"),
    ],
)
def test_files_that_are_something_else_are_refused(db, weights, bank, change, words):
    change(weights, bank)
    with pytest.raises(CommandError, match=words):
        call_command("add_virtues", "x", str(weights), "--bank", str(bank))
    assert not ModelVersion.objects.filter(family="virtues").exists()


def test_a_bank_that_is_not_there_and_a_release_that_nobody_knows(db, weights, tmp_path, bank):
    with pytest.raises(CommandError, match="There is no folder nowhere"):
        call_command("add_virtues", "x", str(weights), "--bank", str(tmp_path / "nowhere"))
    with pytest.raises(CommandError, match="There is no release sp99"):
        call_command("add_virtues", "x", str(weights), "--bank", str(bank), "--release", "sp99")
