"""Every hyper-parameter of discovery with unit, default and its place in the paper. Imports no numpy: forms are made from this.

"paper" is VirTues, Methods. Where the paper says nothing, the source says so and the default is ours.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


def _f(default: Any, unit: str, source: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit, "source": source}, **limits)


def _seed() -> Any:
    return _f(0, "", "paper: not given", "The same seed and input give the same result.", ge=0)


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GraphConfig(_Config):
    """The k-nearest-neighbour graph of the cells that all resolutions share."""

    neighbours: int = _f(
        15, "cells", "paper: not given", "Nearest neighbours of a cell, Euclidean; an edge where either side has it.", ge=1, le=200
    )
    weights: Literal["jaccard", "unit"] = _f(
        "jaccard", "", "paper: not given", "Weight of an edge: the share of neighbours that both ends have (each its own neighbour), or 1."
    )
    components: int | None = _f(
        50,
        "principal components",
        "paper: not given",
        "Where neighbours are looked for; empty: in the tokens.",
        ge=2,
        le=512,
    )
    block: int = _f(8192, "cells", "", "Cells whose neighbours are found between two looks at the stop.", ge=1)


class LeidenConfig(_Config):
    """Leiden clusterings of one graph."""

    first: float = _f(4.0, "", "paper: Biomarker discovery", "First resolution.", gt=0, le=1000)
    last: float = _f(5.0, "", "paper: Biomarker discovery", "Last resolution.", gt=0, le=1000)
    step: float = _f(0.05, "", "paper: Biomarker discovery", "Step between resolutions.", gt=0)
    iterations: int = _f(2, "", "paper: not given", "Iterations of Leiden, as leidenalg; -1: until nothing improves.", ge=-1, le=1000)
    largest: int = _f(2000, "cells", "paper: Biomarker discovery", "Clusters of so many cells or more are left out.", ge=2)
    smallest: int = _f(1, "cells", "paper: not given", "Clusters of fewer cells are left out.", ge=1)
    seed: int = _seed()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("The last resolution is below the first.")
        if self.iterations == 0:
            raise ValueError("Leiden needs an iteration; -1 goes on until nothing improves.")
        return self

    @property
    def resolutions(self) -> tuple[float, ...]:
        """From first to last, both among them where the step fits; 21 by default."""
        count = int((self.last - self.first) / self.step + 1e-9) + 1
        return tuple(round(self.first + i * self.step, 10) for i in range(count))


class BiomarkerConfig(_Config):
    """From cluster shares to biomarkers, and how far their estimate can be believed."""

    folds: int = _f(4, "", "paper: Biomarker discovery", "Patient folds of the screen and of the joint model, stratified.", ge=2, le=50)
    screen_repeats: int = _f(10, "", "paper: Biomarker discovery", "Splits of the screen.", ge=1, le=200)
    joint_repeats: int = _f(25, "", "paper: Biomarker discovery", "Splits of the joint model.", ge=1, le=200)
    per_direction: int = _f(2, "clusters", "paper: Biomarker discovery", "Best clusters taken for each direction.", ge=1, le=20)
    c: float = _f(1.0, "", "paper: not given; sklearn's default", "Inverse strength of the ridge of the logistic regressions.", gt=0)
    outer_folds: int = _f(4, "", "ours", "Outer folds of the nested estimate; selection sees the other folds only.", ge=2, le=50)
    outer_repeats: int = _f(5, "", "ours", "Outer splits of the nested estimate.", ge=1, le=200)
    permutations: int = _f(200, "", "ours", "Shufflings of the outcome through the whole recipe.", ge=1, le=100_000)
    seed: int = _seed()


class BiomarkerRunConfig(_Config):
    """The whole search for biomarkers: from the cells' neighbours to the estimate."""

    graph: GraphConfig = _f(GraphConfig(), "", "paper: Biomarker discovery (graph not given)", "Neighbours of the cells.")
    leiden: LeidenConfig = _f(LeidenConfig(), "", "paper: Biomarker discovery", "Clusters of the cells.")
    biomarkers: BiomarkerConfig = _f(BiomarkerConfig(), "", "paper: Biomarker discovery", "Which clusters, and how they are judged.")


class SignatureConfig(_Config):
    """Signatures carried to another cohort."""

    trees: int = _f(200, "", "paper: Signature transfer", "Trees of the forest of a signature; gini, bootstrap.", ge=1, le=5000)
    depth: int = _f(16, "", "paper: Signature transfer", "Most levels of a tree.", ge=1, le=100)
    held_out: float = _f(
        0.2,
        "share of patients",
        "paper: 20%, not said to be by patient",
        "Patients that measure the forest and never enter it.",
        gt=0,
        lt=1,
    )
    thresholds: Literal["training", "new"] = _f(
        "training", "", "paper: not given", "Whose tertiles make the ranks of the new cohort: the training cohort's, or its own."
    )
    sign: Literal[1, -1] = _f(
        -1,
        "",
        "paper prints +1 and calls the high side high risk",
        "Risk score = sign x R, R = ranks of response less ranks of non-response. With +1 more response signature is called high risk.",
    )
    high_above: float = _f(2.0, "", "paper: R > 2", "A risk score above this is high; the score itself is medium (the paper: no group).")
    low_below: float = _f(-1.0, "", "paper: R < -1", "A risk score below this is low; the score itself is medium (the paper: no group).")
    seed: int = _seed()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low_below > self.high_above:
            raise ValueError("low_below is above high_above, so a score would be both low and high.")
        return self


class RiskGroupConfig(_Config):
    """TME risk groups: patients grouped by the cells of their tissues."""

    cell_clusters: int = _f(120, "", "paper: TME risk groups", "k-means clusters of the cell tokens.", ge=2, le=2000)
    groups: int = _f(4, "", "paper: TME risk groups", "k-means clusters of patients, halved into high and low risk.", ge=2, le=20)
    merge: Literal["survival", "declared"] = _f(
        "survival", "", "paper: by survival", "Which groups are high risk: found by survival (p is corrected), or declared beforehand."
    )
    declared_high: tuple[int, ...] = _f((), "", "ours", "With merge = declared: numbers of the high-risk groups, 0 the largest.")
    starts: int = _f(3, "", "paper: not given", "Starts of each k-means, the best is kept.", ge=1, le=100)
    folds: int = _f(5, "", "ours", "Patient folds of the out-of-fold version of the merge.", ge=2, le=50)
    permutations: int = _f(200, "", "ours", "Shufflings of the outcomes through the whole merge.", ge=1, le=100_000)
    seed: int = _seed()

    @model_validator(mode="after")
    def _declared(self) -> Self:
        numbers = set(self.declared_high)
        if self.merge == "declared" and not (numbers < set(range(self.groups)) and numbers):
            raise ValueError(f"declared_high names some, not all, of the groups 0 to {self.groups - 1}.")
        return self


class CellTypingConfig(_Config):
    """Linear probe of cell types."""

    c: float = _f(1.0, "", "paper: Cell typing", "Inverse strength of the L2 penalty (sklearn's C); L-BFGS, multinomial.", gt=0)
    scaling: Literal["none", "standard"] = _f(
        "none", "", "paper: none said", "Standardise the tokens by the training patients, as the authors' later benchmark does."
    )
    iterations: int = _f(1000, "", "the authors' notebook", "Most iterations of L-BFGS.", ge=1)
    held_out: float = _f(0.2, "share of patients", "paper: 80/20 by patient", "Patients that measure the probe.", gt=0, lt=1)
    bootstrap: int = _f(1000, "", "paper: not given", "Draws of patients for the 95% intervals.", ge=10, le=100_000)
    seed: int = _seed()


class TransferConfig(_Config):
    """Cell types carried to another cohort."""

    trees: int = _f(100, "", "paper: Cross-cohort transfer", "Trees of the forest; gini, bootstrap.", ge=1, le=5000)
    depth: int = _f(16, "", "paper: Cross-cohort transfer", "Most levels of a tree.", ge=1, le=100)
    bootstrap: int = _f(1000, "", "paper: not given", "Draws of patients for the 95% intervals.", ge=10, le=100_000)
    seed: int = _seed()


class NeighbourhoodConfig(_Config):
    """What surrounds the cells of a cluster."""

    radius_um: float = _f(30.0, "um", "paper: not given", "Cells so near to a member, not members, are the neighbourhood.", gt=0, le=1000)
