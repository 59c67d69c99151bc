"""What can go wrong in MICA, said so that a person can act on it."""


class MicaError(Exception):
    """code: stable name; sentence: for a person, ends with a full stop; hint: the next step; where: file, slide, fold or array."""

    def __init__(self, code: str, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(f"{sentence} {hint}".strip())
        self.code, self.sentence, self.hint, self.where = code, sentence, hint, where
