"""The one exception of this room: every refusal has a code, a sentence and a hint."""

from __future__ import annotations


class VirtuesError(ValueError):
    """What was asked cannot be computed from this input.

    code: a short name that programs may test. sentence: what is wrong, ending in a full stop. hint: what to do.
    where: which input (for example a channel), empty where there is only one.
    """

    def __init__(self, code: str, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.hint = hint
        self.where = where
