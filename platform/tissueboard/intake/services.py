"""Everything that intake can be asked to do. What each verb does is in the module that it comes from."""

from .clinical import import_clinical, propose_mapping, read_table
from .slide_import import SlideImportResult, import_slide, override_mpp
from .uploads import confirm_import, discard_import, receive_upload, request_override, review_import

__all__ = [
    "SlideImportResult",
    "confirm_import",
    "discard_import",
    "import_clinical",
    "import_slide",
    "override_mpp",
    "propose_mapping",
    "read_table",
    "receive_upload",
    "request_override",
    "review_import",
]
