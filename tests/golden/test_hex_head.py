"""The head gives what the authors' own code gives (golden/hex/README.md: rtol 1e-4, atol 1e-5)."""

import numpy as np
import pytest
import torch

from ml.hex.checkpoint import export_authors_head, load_authors_head

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def head_file(golden):
    with np.load(golden / "hex" / "head.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def state_dict(head_file):
    return {key.removeprefix("sd."): value for key, value in head_file.items() if key.startswith("sd.")}


def test_predictions_and_features_are_the_authors(head_file):
    with torch.inference_mode():
        predictions, features = load_authors_head(state_dict(head_file))(head_file["x"])
    torch.testing.assert_close(predictions, head_file["preds"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, head_file["features"], rtol=1e-4, atol=1e-5)


def test_the_head_goes_back_under_the_authors_keys(head_file):
    state = state_dict(head_file)
    exported = export_authors_head(load_authors_head(state))
    assert exported.keys() == state.keys() and all(torch.equal(exported[key], state[key]) for key in state)


def test_a_training_checkpoint_with_backbone_and_fds_loads_its_head(golden):
    with np.load(golden / "hex" / "train_forward_fds.npz") as file:
        state = {key.removeprefix("sd."): torch.from_numpy(file[key]) for key in file.files if key.startswith("sd.")}
        x, features = torch.from_numpy(file["x"]), torch.from_numpy(file["features"])
    state["visual.beit3.encoder.layers.0.ffn.A.fc1.weight"] = torch.zeros(2, 2)
    with torch.inference_mode():
        torch.testing.assert_close(load_authors_head(state)(x)[1], features, rtol=1e-4, atol=1e-5)
