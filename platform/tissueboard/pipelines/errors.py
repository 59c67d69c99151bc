"""What a pipeline may refuse."""

from tissueboard.errors import TissueboardError


class UnknownPipeline(TissueboardError):
    status = 404

    def __init__(self, name: str, known: list[str]):
        super().__init__("UNKNOWN_PIPELINE", f"There is no pipeline {name}.", f"Pipelines are: {', '.join(known)}.")
