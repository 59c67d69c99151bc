"""What is said about a file: coded findings, and the exception that carries one. Tables and slides share the same shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """error = the file cannot be used as it is; warning = a person should look; info = good to know."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class FindingCode(StrEnum):
    """Everything that can be said about a slide file. The text may change, the code does not."""

    # the bytes
    FILE_MISSING = "FILE_MISSING"
    EMPTY_FILE = "EMPTY_FILE"
    WRONG_EXTENSION = "WRONG_EXTENSION"
    HTML_PAGE = "HTML_PAGE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    PICTURE_NOT_SLIDE = "PICTURE_NOT_SLIDE"
    COMPANION_MISSING = "COMPANION_MISSING"
    COMPANION_FILE = "COMPANION_FILE"
    # archives
    ARCHIVE_LINK = "ARCHIVE_LINK"
    ARCHIVE_ESCAPE = "ARCHIVE_ESCAPE"
    ARCHIVE_TOO_DEEP = "ARCHIVE_TOO_DEEP"
    ARCHIVE_TOO_LARGE = "ARCHIVE_TOO_LARGE"
    ARCHIVE_UNREADABLE = "ARCHIVE_UNREADABLE"
    ARCHIVE_NOT_UNPACKED = "ARCHIVE_NOT_UNPACKED"
    # the picture
    OPEN_FAILED = "OPEN_FAILED"
    TIFF_BROKEN = "TIFF_BROKEN"
    TRUNCATED = "TRUNCATED"
    TILE_UNREADABLE = "TILE_UNREADABLE"
    TILE_DAMAGED = "TILE_DAMAGED"
    NOT_A_PYRAMID = "NOT_A_PYRAMID"
    ASSAY_IMAGE = "ASSAY_IMAGE"
    NOT_BRIGHTFIELD = "NOT_BRIGHTFIELD"
    METADATA_BROKEN = "METADATA_BROKEN"
    TOO_SMALL = "TOO_SMALL"
    NO_TISSUE = "NO_TISSUE"
    LEVEL_NOT_INTEGER = "LEVEL_NOT_INTEGER"
    # how well it can be read by eye and by models (warnings; they never block)
    PEN_MARKS = "PEN_MARKS"
    OUT_OF_FOCUS = "OUT_OF_FOCUS"
    STAIN_WEAK = "STAIN_WEAK"
    STAIN_STRONG = "STAIN_STRONG"
    STAIN_UNBALANCED = "STAIN_UNBALANCED"
    GLASS_DARK = "GLASS_DARK"
    CLIPPED = "CLIPPED"
    # the learned tissue mask
    MASK_WEIGHTS_MISSING = "MASK_WEIGHTS_MISSING"
    MASK_WEIGHTS_INVALID = "MASK_WEIGHTS_INVALID"
    # channels of a multiplex image
    NOT_MULTIPLEX = "NOT_MULTIPLEX"
    STACK_NOT_FLAT = "STACK_NOT_FLAT"
    SEVERAL_IMAGES = "SEVERAL_IMAGES"
    OTHER_FILES = "OTHER_FILES"
    CHANNELS_DIFFER = "CHANNELS_DIFFER"
    CHANNEL_NAMES_MISSING = "CHANNEL_NAMES_MISSING"
    CHANNEL_NAMES_DUPLICATE = "CHANNEL_NAMES_DUPLICATE"
    CHANNEL_COUNT_DIFFERS = "CHANNEL_COUNT_DIFFERS"
    CHANNEL_NOT_THERE = "CHANNEL_NOT_THERE"
    CHANNEL_EMPTY = "CHANNEL_EMPTY"
    CHANNEL_SATURATED = "CHANNEL_SATURATED"
    CHANNEL_NOT_FINITE = "CHANNEL_NOT_FINITE"
    DTYPE_UNUSUAL = "DTYPE_UNUSUAL"
    DTYPE_UNSUPPORTED = "DTYPE_UNSUPPORTED"
    MULTIPLEX_UNREADABLE = "MULTIPLEX_UNREADABLE"
    PANEL_UNREADABLE = "PANEL_UNREADABLE"
    ZARR_UNREADABLE = "ZARR_UNREADABLE"
    ZARR_CHUNKS_MISSING = "ZARR_CHUNKS_MISSING"
    TOO_SMALL_FOR_CROPS = "TOO_SMALL_FOR_CROPS"
    # cells on a multiplex image
    MASK_UNREADABLE = "MASK_UNREADABLE"
    MASK_SIZE_DIFFERS = "MASK_SIZE_DIFFERS"
    MASK_NOT_LABELS = "MASK_NOT_LABELS"
    MASK_EMPTY = "MASK_EMPTY"
    CELL_AREA_IMPLAUSIBLE = "CELL_AREA_IMPLAUSIBLE"
    CELL_TABLE_UNREADABLE = "CELL_TABLE_UNREADABLE"
    CELL_COLUMN_MISSING = "CELL_COLUMN_MISSING"
    CELL_ID_INVALID = "CELL_ID_INVALID"
    CELL_ID_TWICE = "CELL_ID_TWICE"
    CELLS_WITHOUT_MASK = "CELLS_WITHOUT_MASK"
    CELLS_WITHOUT_ROW = "CELLS_WITHOUT_ROW"
    # a folder in the layout of spora
    SPORA_FILE_MISSING = "SPORA_FILE_MISSING"
    SPORA_TABLE_INVALID = "SPORA_TABLE_INVALID"
    SPORA_TISSUE_UNKNOWN = "SPORA_TISSUE_UNKNOWN"
    # channels as proteins
    NO_KNOWN_MARKER = "NO_KNOWN_MARKER"
    UNIPROT_INVALID = "UNIPROT_INVALID"
    # placing an image on a slide
    LANDMARKS_TOO_FEW = "LANDMARKS_TOO_FEW"
    LANDMARKS_COLLINEAR = "LANDMARKS_COLLINEAR"
    ALIGNMENT_INVALID = "ALIGNMENT_INVALID"
    ALIGNMENT_MIRRORED = "ALIGNMENT_MIRRORED"
    ALIGNMENT_SCALE = "ALIGNMENT_SCALE"
    ALIGNMENT_OUTSIDE = "ALIGNMENT_OUTSIDE"
    ALIGNMENT_LOOSE = "ALIGNMENT_LOOSE"
    # physical size
    MPP_MISSING = "MPP_MISSING"
    MPP_IMPLAUSIBLE = "MPP_IMPLAUSIBLE"
    MPP_ANISOTROPIC = "MPP_ANISOTROPIC"
    MPP_CONFLICT = "MPP_CONFLICT"
    LEVEL_TOO_LOW = "LEVEL_TOO_LOW"
    PITCH_TOO_FINE = "PITCH_TOO_FINE"
    # DICOM
    DICOM_WRONG_MODALITY = "DICOM_WRONG_MODALITY"
    DICOM_LABEL_IMAGE = "DICOM_LABEL_IMAGE"
    DICOM_NO_FLAVOR = "DICOM_NO_FLAVOR"
    DICOM_SERIES_PART = "DICOM_SERIES_PART"
    DICOM_LEFT_OUT = "DICOM_LEFT_OUT"
    DICOM_INSTANCE_MISSING = "DICOM_INSTANCE_MISSING"
    # identifiers
    IDENTIFIERS_IN_HEADER = "IDENTIFIERS_IN_HEADER"
    ASSOCIATED_IMAGES = "ASSOCIATED_IMAGES"
    # the child process that parsed it
    PARSER_CRASHED = "PARSER_CRASHED"
    PARSER_TIMEOUT = "PARSER_TIMEOUT"
    PARSER_OUT_OF_MEMORY = "PARSER_OUT_OF_MEMORY"
    # reading and writing our own files
    TILE_NOT_THERE = "TILE_NOT_THERE"
    NO_COLOUR_PROFILE = "NO_COLOUR_PROFILE"
    BAG_UNREADABLE = "BAG_UNREADABLE"
    BAG_INVALID = "BAG_INVALID"
    BLOCK_DAMAGED = "BLOCK_DAMAGED"
    TOO_MANY_BAD_TILES = "TOO_MANY_BAD_TILES"
    DISK_TOO_FULL = "DISK_TOO_FULL"
    # features that another tool made
    FILE_WITHOUT_SLIDE = "FILE_WITHOUT_SLIDE"
    SLIDE_WITHOUT_FILE = "SLIDE_WITHOUT_FILE"
    SLIDE_NAMED_TWICE = "SLIDE_NAMED_TWICE"
    REGIONS_NOT_APPLIED = "REGIONS_NOT_APPLIED"
    FEATURES_NOT_FINITE = "FEATURES_NOT_FINITE"
    FEATURES_WRONG_DIM = "FEATURES_WRONG_DIM"
    COORDS_MISSING = "COORDS_MISSING"
    COORDS_OUTSIDE = "COORDS_OUTSIDE"
    TILE_SIZE_MISSING = "TILE_SIZE_MISSING"
    TILE_SIZE_DIFFERS = "TILE_SIZE_DIFFERS"
    ALREADY_IMPORTED = "ALREADY_IMPORTED"
    WORKING_SLIDE_FAILED = "WORKING_SLIDE_FAILED"
    FILE_CHANGED = "FILE_CHANGED"
    DISK_FULL = "DISK_FULL"


@dataclass(frozen=True)
class Finding:
    """One coded statement about a file.

    where: the place inside the file ("row 12, column age", "IFD 0", "level 2, x 0, y 512 px0"); "" means the whole file.
    sentence: what is wrong, ending in a full stop. hint: what to do next. file: its name, never its folder.
    """

    code: str
    severity: str
    file: str
    where: str
    sentence: str
    hint: str

    def to_dict(self) -> dict[str, str]:
        """Plain strings under the keys code, severity, file, where, sentence, hint."""
        return {key: str(value) for key, value in asdict(self).items()}


class SlideError(Exception):
    """A slide, or a file that we made from one, cannot be used as asked. Its text is meant for people."""

    def __init__(self, code: FindingCode, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.hint = hint
        self.where = where

    def finding(self, file: str, severity: Severity = Severity.ERROR) -> Finding:
        """The same statement as a finding about `file`."""
        return Finding(self.code, severity, file, self.where, self.sentence, self.hint)
