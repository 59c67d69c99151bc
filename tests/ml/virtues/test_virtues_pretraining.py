"""Pretraining: who is held out, what a crop is, that a killed run ends as if it had not been, and what is kept on disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml.training.loop import Cancelled
from ml.training.splits import patient_hash
from ml.virtues.config import VirtuesConfig
from ml.virtues.data import Batch, Batches, places_of, source_of, standard_of
from ml.virtues.errors import VirtuesError
from ml.virtues.lightning_module import VirtuesTraining
from ml.virtues.model import VirTues, reconstruction_loss
from ml.virtues.preprocess import blur
from ml.virtues.pretrain_config import VirtuesPretrainConfig
from ml.virtues.train import fit, split_patients
from ml.virtues.weights import load, save_fit


def weights_of(result):
    return torch.cat([p.flatten() for p in result.model.parameters()])


def test_each_data_set_gives_its_share_and_the_held_out_are_in_no_crop(trained, cohort):
    images, _, patients, datasets = cohort
    held = trained.split.held_out
    assert len(held) == 2 and {dict(zip(patients, datasets))[p] for p in held} == {"one", "two"}
    assert {s.unit for s in trained.fitted} == set(trained.split.fit) and {s.unit for s in trained.held_out} == set(held)
    first = [i for i, (p, d) in enumerate(zip(patients, datasets)) if d == "one" and p in trained.split.fit]
    mine = standard_of([images[i] for i in first], [None] * len(first))
    assert np.allclose(trained.standards["one"].mean, mine.mean), "means are those of the training patients alone"


def test_it_learns_what_a_masked_patch_holds(trained):
    curve = [y for _, y in trained.facts.curve]
    assert curve[-1] < 0.75 * curve[0] and np.isfinite(curve).all()


def test_a_data_set_can_be_left_out_whole(cohort, tiny):
    _, _, patients, datasets = cohort
    split = split_patients(patients, datasets, tiny.model_copy(update={"leave_out": "two"}))
    assert set(patients[5:]) <= set(split.held_out) and len(split.held_out) == 6
    with pytest.raises(VirtuesError, match="there are one, two"):
        split_patients(patients, datasets, tiny.model_copy(update={"leave_out": "three"}))
    both = split_patients([*patients, "p0"], [*datasets, "two"], tiny.model_copy(update={"leave_out": "two", "held_out": 0.5}))
    assert "p0" in both.held_out, "who is in the data set that is left out is never trained on"


def test_a_split_that_is_given_is_kept(cohort, tiny):
    _, _, patients, datasets = cohort
    given = {p: "test" if p in ("p1", "p7") else "train" for p in patients}
    assert split_patients(patients, datasets, tiny, given).held_out == ("p1", "p7")
    with pytest.raises(VirtuesError, match="neither side"):
        split_patients(patients, datasets, tiny, {"p1": "train"})


@pytest.mark.parametrize("stopped_after", [7, 12])
def test_killed_and_resumed_it_ends_with_the_same_weights_bit_for_bit(cohort, tiny, bank, tmp_path, stopped_after):
    config = tiny.model_copy(update={"epochs": 6, "subimages": 2, "weight_decay": 0.04, "weight_decay_end": 0.4, "accumulate": 2})
    whole = fit(*cohort, config, bank)
    asked = []
    with pytest.raises(Cancelled):
        fit(*cohort, config, bank, checkpoint_dir=tmp_path, stop=lambda: asked.append(1) or len(asked) == stopped_after)
    heard = []
    again = fit(*cohort, config, bank, checkpoint_dir=tmp_path, progress=lambda f, _: heard.append(f))
    assert heard[0] > 0.3, "finished epochs are not done again"
    assert torch.equal(weights_of(again), weights_of(whole))


def test_another_training_does_not_go_on_from_a_foreign_checkpoint(cohort, tiny, bank, tmp_path):
    config = tiny.model_copy(update={"epochs": 3, "subimages": 1, "checkpoint_every": 1})
    fit(*cohort, config, bank, checkpoint_dir=tmp_path)
    other = config.model_copy(update={"seed": 1})
    kept = fit(*cohort, other, bank, checkpoint_dir=tmp_path)
    assert torch.equal(weights_of(kept), weights_of(fit(*cohort, other, bank)))


def test_a_sample_is_the_same_whoever_prepares_it(trained, tiny):
    places = places_of(trained.fitted, tiny, 0)
    inline, threads = (Batches(trained.fitted, places, tiny.model_copy(update={"workers": n})) for n in (0, 3))
    for a, b in zip(inline(1), threads(1), strict=True):
        assert all(torch.equal(x, y) for x, y in zip((*a.images, *a.masks), (*b.images, *b.masks)))
    first, second = next(iter(inline(0))), next(iter(inline(1)))
    assert not torch.equal(first.masks[0], second.masks[0]), "every epoch has crops of its own"


def test_processes_share_an_epoch_without_a_crop_twice(trained, tiny, monkeypatch):
    places, seen = places_of(trained.fitted, tiny, 0), []
    batches = Batches(trained.fitted, places, tiny)
    for rank in range(2):
        monkeypatch.setattr(Batches, "world", property(lambda self, rank=rank: (rank, 2)))
        monkeypatch.setattr(Batches, "sample", lambda self, epoch, at, place: place)
        monkeypatch.setattr(Batch, "of", classmethod(lambda cls, samples: samples))
        mine = [place for batch in batches(0) for place in batch]
        assert len(mine) == batches.steps(2) * batches.size
        seen += mine
    assert set(seen) == set(range(len(places))) and len(seen) - len(places) < 2 * batches.size, "only the last batch is filled up"


def test_a_crop_is_blurred_alone_and_differs_on_its_rim_only(trained):
    source = trained.fitted[0]
    crop, size = source.crop(8, 8, 32), source.raw.shape[1]
    whole = source.crop(0, 0, size)[:, 8:40, 8:40]
    assert np.allclose(crop[:, 1:-1, 1:-1], whole[:, 1:-1, 1:-1], atol=1e-5)
    assert np.abs(crop - whole)[:, 0].max() > 0.01
    assert np.allclose(blur(np.ones((1, 8, 8))), 1, atol=1e-6)


def test_the_loss_counts_every_pixel_of_every_channel_once(trained, tiny):
    batch = next(iter(Batches(trained.fitted, places_of(trained.fitted, tiny, 0), tiny)(0)))
    module = VirtuesTraining(trained.model, tiny, 10)
    _, pictures = trained.model(batch.images, batch.markers, batch.masks)
    by_hand = sum(float(((p - t) ** 2).sum()) for p, t in zip(pictures, batch.images)) / sum(t.numel() for t in batch.images)
    assert float(module.training_step(batch, 0)) == pytest.approx(by_hand, rel=1e-5)
    assert float(reconstruction_loss(pictures, batch.images)) == pytest.approx(by_hand, rel=1e-5)


def test_biases_and_norms_are_not_decayed_and_schedules_end_where_they_should(tiny):
    config = tiny.model_copy(update={"weight_decay": 0.04, "weight_decay_end": 0.4, "warmup": 0.1, "lr_end": 1e-4})
    module = VirtuesTraining(VirTues(config.network), config, 100)
    decayed, plain = module.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in module.model.named_parameters()}
    assert {names[id(p)] for p in plain["params"]} == {n for n in names.values() if "norm" in n or n.endswith("bias")}
    assert plain["weight_decay"] == 0 and {"encoder.summary_token", "encoder.mask_token"} <= {names[id(p)] for p in decayed["params"]}
    assert module.rate(0) == pytest.approx(0.1) and module.rate(9) == 1 and module.rate(100) == pytest.approx(0.01)
    assert (module.decay(0), module.decay(99)) == (pytest.approx(0.04), pytest.approx(0.4))
    assert VirtuesTraining(module.model, tiny, 100).decay(50) == tiny.weight_decay


def test_a_saved_training_is_read_back_and_knows_whom_it_saw(trained, tmp_path, bank):
    save_fit(trained, tmp_path, salt="secret", code_version="1", label="for tests", inputs={})
    kept = load(tmp_path)
    assert torch.equal(weights_of(kept), weights_of(trained)) and kept.pitch_um == 1.0
    assert set(kept.membership) == {patient_hash(p, "secret") for p in trained.split.fit}
    assert np.array_equal(kept.bank.embedding("P07766"), bank.embedding("P07766"))
    assert np.allclose(kept.standards["two"].rows(["CD8"]), trained.standards["two"].rows(["CD8"]))
    (tmp_path / "standard.json").write_text("{}")
    with pytest.raises(VirtuesError, match=r"standard.json is not the one"):
        load(tmp_path)


def test_it_goes_on_from_a_network_of_the_same_shape(trained, cohort, tiny, bank):
    short = tiny.model_copy(update={"epochs": 1, "subimages": 1, "lr": 1e-6})
    on = fit(*cohort, short, bank, start=trained.model)
    assert torch.allclose(weights_of(on), weights_of(trained), atol=1e-3) and not torch.equal(weights_of(on), weights_of(trained))
    with pytest.raises(VirtuesError, match="another shape"):
        fit(*cohort, short, bank, start=VirTues(VirtuesConfig(**{**tiny.network.model_dump(), "encoder_pattern": "hvhv"})))


def test_channels_without_protein_or_signal_are_left_out_and_said(bank, draw_counts):
    image = draw_counts(0)
    dead = replace(image, values=np.concatenate([np.zeros_like(image.values[:1]), image.values[1:]]))
    source = source_of(dead, ["P07766", None, "Q00000", "P34810", "P08670", ""], bank, standard_of([dead], [None]), unit="p")
    assert source.names == ("CD68", "VIM") and [name for name, _ in source.dropped] == ["CD3", "CD4", "CD8", "CK"]
    with pytest.raises(VirtuesError, match="None of the 6 channels can be used"):
        source_of(replace(image, values=np.zeros_like(image.values)), ["P07766"] * 6, bank, standard_of([image], [None]), unit="p")


def test_what_cannot_be_trained_on_is_refused(cohort, tiny, bank):
    images, proteins, patients, datasets = cohort
    with pytest.raises(VirtuesError, match=r"0.25 um per px, the training 1"):
        fit([replace(images[0], um_per_px=0.25), *images[1:]], proteins, patients, datasets, tiny, bank)
    with pytest.raises(VirtuesError, match="not equally many"):
        fit(images, proteins[:-1], patients, datasets, tiny, bank)


def test_recipes_are_the_published_ones():
    paper, code = VirtuesPretrainConfig.released(), VirtuesPretrainConfig.as_coded(seed=3)
    assert (paper.epochs, paper.batch * paper.accumulate, paper.tiling, paper.weight_decay) == (150, 512, "random", 0.04)
    assert (code.epochs, code.batch, code.tiling, code.weight_decay_end, code.seed) == (100, 16, "greedy", None, 3)
    assert paper.network == VirtuesConfig()
    with pytest.raises(ValueError, match="does not divide"):
        VirtuesPretrainConfig(crop=100)
