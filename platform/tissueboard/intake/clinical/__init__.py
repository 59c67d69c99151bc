"""Clinical tables: `read_table`, `propose_mapping`, `import_clinical`."""

from .importer import import_clinical
from .mapping import EndpointMapping, Mapping, VariableMapping
from .propose import Proposal, propose_mapping
from .read import read_table
from .report import ClinicalReport
from .table import Table

__all__ = [
    "ClinicalReport",
    "EndpointMapping",
    "Mapping",
    "Proposal",
    "Table",
    "VariableMapping",
    "import_clinical",
    "propose_mapping",
    "read_table",
]
