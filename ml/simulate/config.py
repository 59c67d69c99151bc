"""What the simulator may be told. Everything else follows from seeds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Densities(BaseModel):
    """Centre-to-centre spacing of cells in um, per compartment (hexagonal lattice with jitter)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tumour: float = Field(default=11.5, gt=4, description="um between tumour cells inside epithelial nests")
    lymphoid: float = Field(default=7.2, gt=4, description="um between lymphoid cells inside a tertiary lymphoid structure")
    stroma: float = Field(default=17.0, gt=4, description="um between fibroblasts and other resident stromal cells")
    infiltrate: float = Field(default=8.5, gt=4, description="um between possible places of infiltrating leukocytes")
    necrosis: float = Field(default=11.0, gt=4, description="um between ghosts and leukocytes in necrosis")
    normal: float = Field(default=10.5, gt=4, description="um between cells along alveolar walls and in bronchial epithelium")


class Composition(BaseModel):
    """How much of each niche patients have: Gamma shapes of a Dirichlet-like law, small shape = strong variation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tumour_core: float = Field(default=3.0, gt=0)
    stroma: float = Field(default=2.2, gt=0)
    normal: float = Field(default=1.1, gt=0)
    necrosis_share: tuple[float, float] = Field(default=(0.7, 2.2), description="Beta law of the share of the tumour that is dead")
    margin_um: tuple[float, float] = Field(default=(20.0, 100.0), description="range of the width of the invasive margin, um")
    tls_mean: float = Field(default=1.5, ge=0, description="mean number of tertiary lymphoid structures per mm2 (Gamma-Poisson)")
    tls_diameter_um: tuple[float, float] = Field(default=(150.0, 300.0), description="range of their diameters, um")


class Hazard(BaseModel):
    """Log hazard of death, linear in niche fractions (per unit of fraction of tissue area), age and stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tls: float = Field(default=-14.0, description="protective, per fraction of tissue")
    necrosis: float = Field(default=13.0, description="harmful, per fraction of tissue")
    invasive_margin: float = Field(default=8.0, description="harmful, per fraction of tissue")
    age_per_decade: float = Field(default=0.15, description="per ten years above 66")
    stage: float = Field(default=0.25, description="per stage step above II")
    baseline_median_days: float = Field(default=980.0, gt=0, description="median survival of a patient at the reference fractions, days")
    weibull_shape: float = Field(default=1.15, gt=0)
    reference_tls: float = 0.06
    reference_necrosis: float = 0.10
    reference_margin: float = 0.22
    administrative_days: float = Field(default=5 * 365.25, gt=0, description="end of follow-up, days")
    dropout_per_year: float = Field(default=0.05, ge=0, description="rate of loss to follow-up, independent of everything else")


class SimulatorConfig(BaseModel):
    """All settings of the tissue simulator. Frozen, so that it can key a cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int = Field(default=2048, ge=512, le=16384, description="width and height of the slide at level 0, px")
    mpp: float = Field(default=0.5, gt=0.1, le=2.0, description="um per px at level 0")
    jpeg_quality: int | None = Field(default=None, ge=30, le=100, description="JPEG quality of the slide; None takes the site's own")
    label_noise: float = Field(default=0.06, ge=0, description="relative noise of a measured tile intensity (log-normal sigma)")
    hidden_protein_sd: float = Field(
        default=0.6, ge=0, description="log sd per patient of proteins that H&E hardly shows (PD-1, LAG3, VISTA...)"
    )
    visible_protein_sd: float = Field(default=0.12, ge=0, description="log sd per patient of every other protein")
    densities: Densities = Densities()
    composition: Composition = Composition()
    hazard: Hazard = Hazard()

    @property
    def size_um(self) -> float:
        """Side of the slide in um."""
        return self.size_px * self.mpp
