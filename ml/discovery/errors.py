"""The exceptions of this room: every refusal has a code, a sentence and a hint; a stop that was asked for is told apart from them."""

from __future__ import annotations

from collections.abc import Callable

# Share done (0..1) and what is being done. Asked between blocks of work: True ends it with Cancelled.
Progress = Callable[[float, str], None]
Stop = Callable[[], bool]


class DiscoveryError(ValueError):
    """What was asked cannot be computed from this input.

    code: a short name that programs may test. sentence: what is wrong, ending in a full stop. hint: what to do.
    where: which input (for example "tokens"), empty where there is only one.
    """

    def __init__(self, code: str, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.hint = hint
        self.where = where


class Cancelled(Exception):
    """The caller asked for a stop; what a block of work had handed out before it is whole and can be gone on from."""

    code, hint = "cancelled", "Start it again: finished blocks are kept."

    def __init__(self, sentence: str = "The discovery was cancelled.") -> None:
        super().__init__(sentence)
        self.sentence = sentence


def tell(progress: Progress | None, stop: Stop | None, share: float, doing: str) -> None:
    """Between two blocks of work: end it where asked to (Cancelled), else say how far it is."""
    if stop is not None and stop():
        raise Cancelled
    if progress is not None:
        progress(share, doing)
