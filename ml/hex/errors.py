"""What can go wrong in HEX, said so that a person can act on it."""


class HexError(Exception):
    """code: stable name; sentence: for a person, ends with a full stop; hint: the next step; where: file, row or array."""

    def __init__(self, code: str, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(f"{sentence} {hint}".strip())
        self.code, self.sentence, self.hint, self.where = code, sentence, hint, where


class HexDataError(HexError):
    """Images, labels or ids that cannot be fitted or predicted."""


class CheckpointError(HexError):
    """A folder of weights that cannot be read as one."""
