"""The config describes itself for forms, refuses nonsense, and costs no torch."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from ml.families import config_schema
from ml.hex.config import HexFitConfig
from ml.hex.panel import HEX_PANEL


def test_forms_are_made_without_torch():
    code = (
        "import sys, ml.families as f; f.config_schema('hex', 'fit'); f.config_schema('hex', 'predict'); "
        "import ml.hex, ml.training.splits; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("task", ["fit", "predict"])
def test_every_field_has_a_default_a_unit_a_source_and_a_sentence(task):
    for name, field in config_schema("hex", task)["properties"].items():
        assert {"default", "unit", "source"} <= field.keys() and field["description"].endswith("."), name


def test_the_default_predicts_the_panel_of_hex():
    config = HexFitConfig()
    assert config.markers == HEX_PANEL and len(HEX_PANEL) == 40 and config.tile_um == 56 and config.input_px == 48


@pytest.mark.parametrize(
    "wrong", [{"encoder": "nobody"}, {"markers": ()}, {"markers": ("CD8", "CD8")}, {"dropout": 1}, {"folds": 1}, {"epoch": 3}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        HexFitConfig(**wrong)
