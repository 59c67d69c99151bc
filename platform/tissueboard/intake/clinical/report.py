"""What a person gets to read about one import of a table: the same for web, REST and command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml.slides.findings import Finding


@dataclass(frozen=True)
class ClinicalReport:
    """state: ready, needs attention (a question is open) or rejected (the file has to change); imported only if ready and no dry run.

    counts: rows, patients, patients_created, values, changes, endpoints, events ... (numbers).
    preview: {"endpoints": {name: {n, events, median_days, coding, values, events_if}}, "rows": first patients as they were read}.
    mapping: as `Mapping.to_dict`; sent back unchanged it gives the same import.
    """

    file: str
    state: str
    dry_run: bool
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    preview: dict[str, Any] = field(default_factory=dict)
    mapping: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON of the report."""
        return {
            "file": self.file,
            "state": self.state,
            "dry_run": self.dry_run,
            "findings": [finding.to_dict() for finding in self.findings],
            "counts": self.counts,
            "preview": self.preview,
            "mapping": self.mapping,
        }
