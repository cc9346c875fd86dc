"""How a model refuses or fails: an error with one of the contract's codes and a text that may reach users."""

from longtake_stages.contract import ModelErrorCode


class ModelError(Exception):
    """A request cannot be served. ``text`` may be shown to users: no paths, no tracebacks."""

    def __init__(self, code: ModelErrorCode, text: str) -> None:
        super().__init__(f"{code.value}: {text}")
        self.code = code
        self.text = text


class InvalidArgumentError(ModelError):
    """The request asks for something that the checkpoint cannot do."""

    def __init__(self, text: str) -> None:
        super().__init__(ModelErrorCode.INVALID_ARGUMENT, text)


class CancelledError(ModelError):
    """Nobody waits for the request any more."""

    def __init__(self) -> None:
        super().__init__(ModelErrorCode.CANCELLED, "the request was cancelled")


class CheckpointError(Exception):
    """The checkpoint cannot be served. For the operator: the text names files."""
