"""The one error of this room. It is raised before Django is set up, so it stands on its own."""


class EmbeddedServiceError(RuntimeError):
    """An embedded service cannot do what was asked: `sentence` says what is wrong, `hint` what to do."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(f"{sentence} {hint}")
        self.sentence = sentence
        self.hint = hint
