"""A tissue simulator with known truth: biology, rendering and outcome are three parts that know nothing of each other."""

from ml.simulate.assay import channel_scale, niche_at, niche_fractions, tile_labels
from ml.simulate.biology import Cells, Tissue, simulate_tissue
from ml.simulate.cohort import SimulatedPatient, simulate_cohort, simulate_patient
from ml.simulate.config import SimulatorConfig
from ml.simulate.niches import GRID_UM, NICHES
from ml.simulate.outcome import HAZARD_NICHES, Outcome, simulate_outcome
from ml.simulate.programmes import CELL_TYPES
from ml.simulate.rendering import render
from ml.simulate.stain import SITES, Site, StainLaw
from ml.simulate.write import write_pyramid

__all__ = [
    "CELL_TYPES",
    "GRID_UM",
    "HAZARD_NICHES",
    "NICHES",
    "SITES",
    "Cells",
    "Outcome",
    "SimulatedPatient",
    "SimulatorConfig",
    "Site",
    "StainLaw",
    "Tissue",
    "channel_scale",
    "niche_at",
    "niche_fractions",
    "render",
    "simulate_cohort",
    "simulate_outcome",
    "simulate_patient",
    "simulate_tissue",
    "tile_labels",
    "write_pyramid",
]
