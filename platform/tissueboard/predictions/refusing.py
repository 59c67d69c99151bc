"""What models, encoders, splits or outcomes say no to, as a refusal whose text people may read."""

from __future__ import annotations

from typing import Any

from tissueboard.errors import TissueboardError
from tissueboard.jobs.errors import JobRefused


class model_refusals:
    """`with model_refusals():` around work of `ml`. What it says no to ends the job with its own sentence; anything else goes on as it is.

    The classes are imported only when something was raised: some of them need torch.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, TissueboardError):
            return
        from ml.encoders import EncoderError
        from ml.hex.errors import HexError
        from ml.mica.errors import MicaError
        from ml.slides.findings import SlideError
        from ml.survival.data import SurvivalDataError
        from ml.training.loop import TrainingDiverged
        from ml.training.splits import SplitError
        from ml.virtues.errors import VirtuesError

        known = HexError | MicaError | VirtuesError | EncoderError | SlideError | SurvivalDataError | SplitError | TrainingDiverged
        if isinstance(error, known):
            raise JobRefused(str(error.code).upper(), error.sentence, error.hint, where=getattr(error, "where", "")) from error
