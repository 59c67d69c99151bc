"""The one list of model families. Entries are import strings, so listing them imports no torch.

A family offers tasks; a task states the types that it takes and gives (names in ml.types), its config (a pydantic
model: `config_schema` turns it into the JSON schema from which forms, REST parameters and job checks are made) and the
callable that does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Task:
    """One thing a family can do. run and config are "module:attribute"."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    run: str
    config: str


@dataclass(frozen=True)
class Family:
    """A published system or a baseline of ours; citation names where it comes from."""

    name: str
    title: str
    citation: str
    tasks: tuple[Task, ...]

    def task(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(f"Family {self.name} has no task {name!r}; it has {', '.join(t.name for t in self.tasks)}.")


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "hex",
            "HEX: virtual proteins from H&E",
            "HEX (H&E to expression); head 256-128-P",
            (
                Task(
                    "fit", ("TileImages", "TileLabels", "Split"), ("weights", "metrics"), "ml.hex.train:fit", "ml.hex.config:HexFitConfig"
                ),
                Task("predict", ("TileImages",), ("FeatureBag", "VirtualMap"), "ml.hex.predict:predict", "ml.hex.config:HexPredictConfig"),
                Task("evaluate", ("TileImages", "TileLabels"), ("metrics",), "ml.hex.external:measure", "ml.hex.config:HexEvaluateConfig"),
            ),
        ),
        Family(
            "mica",
            "MICA: survival from H&E and virtual CODEX",
            "MICA (multimodal integration by co-attention), with HEX",
            (
                Task(
                    "fit",
                    ("FeatureBag", "VirtualMap", "Outcomes", "Split"),
                    ("weights", "metrics", "Risk"),
                    "ml.mica.train:fit",
                    "ml.mica.config:MicaFitConfig",
                ),
                Task("predict", ("FeatureBag", "VirtualMap"), ("Risk",), "ml.mica.predict:predict", "ml.mica.config:MicaPredictConfig"),
                Task(
                    "explain",
                    ("FeatureBag", "VirtualMap"),
                    ("attributions",),
                    "ml.mica.explain:explain",
                    "ml.mica.config:MicaExplainConfig",
                ),
            ),
        ),
        Family(
            "cox_summary",
            "Ridge Cox on virtual-protein summaries",
            "Cox 1972, ridge penalty; lifelines",
            (
                Task(
                    "fit",
                    ("Summaries", "Outcomes"),
                    ("weights", "metrics", "Risk"),
                    "ml.survival.risk:fit",
                    "ml.survival.config:CoxSummaryConfig",
                ),
                Task("predict", ("Summaries",), ("Risk",), "ml.survival.risk:predict", "ml.survival.config:CoxSummaryConfig"),
            ),
        ),
        Family(
            "niche",
            "Niche vectors of 128 um",
            "Niche summaries with block scaling; VirTues' retrieval idea (weighted sets, 2-Wasserstein)",
            (
                Task("fit", ("VirtualMap", "FeatureBag"), ("weights",), "ml.transport.niches:fit", "ml.transport.config:NicheConfig"),
                Task(
                    "predict", ("VirtualMap", "FeatureBag"), ("NicheSet",), "ml.transport.niches:predict", "ml.transport.config:NicheConfig"
                ),
            ),
        ),
        Family(
            "virtues",
            "VirTues: cells, niches and tissues of any marker panel",
            "VirTues (virtual tissues), encoder over protein embeddings of markers",
            (
                Task(
                    "embed",
                    ("MultiplexImage",),
                    ("NicheSet", "tokens of cells"),
                    "ml.virtues.embed:embed",
                    "ml.virtues.embed_config:VirtuesEmbedConfig",
                ),
                Task(
                    "pretrain",
                    ("MultiplexImage", "Split"),
                    ("weights", "metrics"),
                    "ml.virtues.train:fit",
                    "ml.virtues.pretrain_config:VirtuesPretrainConfig",
                ),
                Task(
                    "pretrain_maps",
                    ("VirtualMap", "Split"),
                    ("weights", "metrics"),
                    "ml.virtues.train:fit",
                    "ml.virtues.map_config:VirtuesMapsConfig",
                ),
                Task(
                    "evaluate",
                    ("MultiplexImage",),
                    ("metrics",),
                    "ml.virtues.evaluate:evaluate",
                    "ml.virtues.pretrain_config:VirtuesEvaluateConfig",
                ),
                Task(
                    "stain", ("MultiplexImage",), ("image",), "ml.virtues.staining:stain", "ml.virtues.pretrain_config:VirtuesStainConfig"
                ),
            ),
        ),
    )
}


def family(name: str) -> Family:
    """The family of that name; KeyError names the ones there are."""
    if name not in FAMILIES:
        raise KeyError(f"There is no family {name!r}; there are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def load(import_string: str) -> Any:
    """The object behind "module:attribute"."""
    module, _, attribute = import_string.partition(":")
    return getattr(import_module(module), attribute)


def runner(family_name: str, task_name: str) -> Callable[..., Any]:
    """The callable of a task (this may import torch)."""
    run: Callable[..., Any] = load(family(family_name).task(task_name).run)
    return run


def config(family_name: str, task_name: str, values: dict[str, Any]) -> Any:
    """A task's config made from plain values; pydantic.ValidationError names what does not fit. Imports no torch."""
    return load(family(family_name).task(task_name).config)(**values)


def config_schema(family_name: str, task_name: str) -> dict[str, Any]:
    """JSON schema of a task's config (imports no torch)."""
    schema: dict[str, Any] = load(family(family_name).task(task_name).config).model_json_schema()
    return schema
