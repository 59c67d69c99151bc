"""Weights, marker banks and panels: what is read, and what is refused with a sentence."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ml.types import MultiplexImage
from ml.virtues.checkpoint import load_weights, save_weights
from ml.virtues.config import VirtuesConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.panel import prepare
from ml.virtues.preprocess import Standard, blur, intensities, preprocess, tissue_mask, upper_quantiles
from ml.virtues.protein_model import embed_sequences, read_fasta

SMALL = VirtuesConfig(
    patch_size=4, model_dim=16, feedforward_dim=16, encoder_pattern="hv", num_encoder_heads=2,
    decoder_pattern="f", num_decoder_heads=2, marker_embedding_dim=5, num_decoder_hidden_layers=2,
)  # fmt: skip


def code_of(call, *args, **kwargs):
    with pytest.raises(VirtuesError) as refused:
        call(*args, **kwargs)
    assert refused.value.sentence.endswith(".")
    assert refused.value.hint.endswith(".")
    return refused.value.code


@pytest.fixture
def folder(tmp_path):
    return save_weights(VirTues(SMALL), tmp_path / "weights")


def change(folder, how):
    state = load_file(folder / "model.safetensors")
    how(state)
    save_file(state, folder / "model.safetensors")


def test_weights_come_back(folder):
    model, state = load_weights(folder), load_file(folder / "model.safetensors")
    assert model.config == SMALL
    assert torch.equal(
        model.encoder.blocks[1].attention.value.weight, state["encoder.encoder.1.encoder_layer.multi_head_attention.W_v.weight"]
    )
    assert torch.equal(model.decoder.head[2].bias, state["decoder.multiplex_decoder_mlp.2.bias"])


def _rename(state):
    state["encoder.protein_encoder.weight"] = state.pop("encoder.prior_embedding_encoder.weight")


def _reshape(state):
    state["encoder.masked_token"] = torch.zeros(7)


def _other_tables(state):
    name = next(n for n in state if n.endswith("rope1d.sin"))
    state[name] = state[name] + 0.5


@pytest.mark.parametrize("how", [_rename, _reshape, _other_tables, lambda state: state.pop("decoder.layer_norm.bias")])
def test_another_layout_is_refused(folder, how):
    change(folder, how)
    assert code_of(load_weights, folder) == "checkpoint_layout"


def test_tables_may_be_absent(folder):
    change(folder, lambda state: [state.pop(name) for name in list(state) if "rope1d" in name])
    assert load_weights(folder).config == SMALL


def test_broken_weights_are_refused(folder, tmp_path):
    assert code_of(load_weights, tmp_path / "nothing") == "weights_missing"
    change(folder, lambda state: state["encoder.masked_token"].fill_(np.nan))
    assert code_of(load_weights, folder) == "checkpoint_not_finite"
    (folder / "model.safetensors").write_bytes(b"<html>not weights</html>")
    assert code_of(load_weights, folder) == "weights_unreadable"
    (folder / "config.json").write_text('{"model_dim": "wide"}')
    assert code_of(load_weights, folder) == "config_unreadable"


def test_without_a_configuration_the_released_one_is_meant(folder):
    (folder / "config.json").unlink()
    assert code_of(load_weights, folder) == "checkpoint_layout"


def test_the_authors_bank(data):
    bank = MarkerBank.from_folder(data / "imc" / "virtues_example" / "marker_embeddings")
    assert bank.dim == 640
    assert len(bank) == 40
    norms = [np.linalg.norm(v) for v in bank.embeddings.values()]
    assert min(norms) > 5
    assert max(norms) < 8


def test_banks_of_files(tmp_path):
    torch.save(torch.ones(4), tmp_path / "P1.pt")
    save_file({"P2": torch.zeros(4), "P1": torch.ones(4)}, tmp_path / "more.safetensors")
    bank = MarkerBank.from_folder(tmp_path)
    assert list(bank.embeddings) == ["P1", "P2"]
    chosen = bank.select(["P2", None, "P9", "P1", "P2"])
    assert chosen.kept.tolist() == [0, 3, 4]
    assert chosen.proteins == ("P2", "P1", "P2")
    assert [place for place, _ in chosen.dropped] == [1, 2]
    assert code_of(bank.select, [None, "P9"]) == "no_known_marker"
    assert code_of(bank.embedding, "P9") == "no_embedding"
    bank.save(tmp_path / "all.safetensors")
    assert MarkerBank.from_folder(tmp_path).embeddings.keys() == bank.embeddings.keys()
    torch.save(torch.zeros(4), tmp_path / "P1.pt")
    assert code_of(MarkerBank.from_folder, tmp_path) == "bank_duplicate"
    torch.save(torch.zeros(5), tmp_path / "P3.pt")
    (tmp_path / "P1.pt").unlink()
    assert code_of(MarkerBank.from_folder, tmp_path) == "bank_shape"
    (tmp_path / "P3.pt").write_bytes(b"no tensor")
    assert code_of(MarkerBank.from_folder, tmp_path) == "bank_file"
    assert code_of(MarkerBank.from_folder, tmp_path / "none") == "bank_missing"
    assert code_of(MarkerBank, {}) == "bank_empty"
    assert code_of(MarkerBank, {"P1": np.array([np.nan])}) == "bank_not_finite"


def test_embeddings_of_sequences(tmp_path):
    transformers = pytest.importorskip("transformers")
    sequences = read_fasta(">sp|P10747|CD28_HUMAN T-cell\nMLRLLLALNL\nFPSIQ\n>P08575-8\nMTMYLWLKLL*\n")
    assert sequences == {"P10747": "MLRLLLALNLFPSIQ", "P08575-8": "MTMYLWLKLL"}
    assert code_of(read_fasta, "MLR") == "fasta"
    assert code_of(read_fasta, ">P1\nMLR\n>P1\nMLR") == "fasta"
    assert code_of(embed_sequences, sequences, tmp_path) == "protein_model_missing"
    letters = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(letters))
    tokenizer = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=len(letters), pad_token_id=1, mask_token_id=len(letters) - 1, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=16, position_embedding_type="rotary",
    )  # fmt: skip
    model = transformers.EsmModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    found = embed_sequences(sequences, tmp_path)
    with torch.no_grad():
        states = model(**tokenizer(sequences["P10747"], return_tensors="pt")).last_hidden_state[0]
    assert len(states) == len(sequences["P10747"]) + 2
    np.testing.assert_allclose(found["P10747"], states[1:-1].mean(dim=0), atol=1e-5)
    assert MarkerBank(found).dim == 16


def picture(channels=4, side=40, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.poisson(5, (channels, side, side)).astype(np.float32)
    values[:, : side // 2] *= 4
    return MultiplexImage(values, tuple(f"m{i}" for i in range(channels)), 1.0)


def test_a_panel_says_what_it_drops_and_why():
    image = picture(6)
    image.values[3] = 0
    bank = MarkerBank({p: np.full(5, i, np.float32) for i, p in enumerate(("P1", "P2", "P3", "P4"))})
    standard = Standard(("m5", "m0", "m3", "m1"), np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 2.0, 1.0]))
    got = prepare(image, ["P3", None, "P9", "P2", "P4", "P1"], bank, standard)
    assert got.proteins == ("P3", "P1")
    assert got.names == ("m0", "m5")
    assert got.mean.tolist() == [2.0, 1.0]
    assert got.embeddings[:, 0].tolist() == [2.0, 0.0]
    assert [name for name, _ in got.dropped] == ["m1", "m2", "m3", "m4"]
    assert "signal" in dict(got.dropped)["m3"]
    assert got.seen(8).shape == (2, 56, 56)
    assert code_of(prepare, image, [None] * 6, bank, standard) == "no_known_marker"
    other = Standard(("m9",), np.array([1.0]), np.array([1.0]))
    assert code_of(prepare, image, ["P4"] * 6, bank, other) == "no_channel_left"
    assert code_of(prepare, image, ["P1"], bank, standard) == "shape"


def test_preprocessing_is_undone_for_looking_at():
    image = picture().values
    upper = upper_quantiles(image)
    standard = Standard.of([(list("abcd"), image, None)])
    x = preprocess(image, upper, *standard.rows("abcd"), smooth=False)
    np.testing.assert_allclose(
        intensities(x, upper, *standard.rows("abcd")), np.clip(image, 0, upper[:, None, None]) / upper[:, None, None], atol=1e-4
    )
    again = Standard.from_json(standard.to_json())
    np.testing.assert_array_equal(again.std, standard.std)
    assert code_of(standard.rows, ["z"]) == "not_standardised"
    assert code_of(upper_quantiles, image, np.zeros((40, 40), bool)) == "no_tissue"
    assert code_of(upper_quantiles, image, np.ones((40, 41), bool)) == "shape"
    assert code_of(preprocess, image, upper[:2], upper, upper) == "shape"
    assert code_of(Standard.of, []) == "no_images"


def test_blur_keeps_the_mean_of_a_plane_and_tissue_is_the_bright_half():
    assert np.allclose(blur(np.full((1, 6, 6), 3.0)), 3.0)
    tissue = tissue_mask(picture(side=80).values)
    assert tissue[:34].mean() > 0.9
    assert tissue[46:].mean() < 0.1
    assert tissue_mask(np.zeros((2, 5, 5), np.float32)).all()
