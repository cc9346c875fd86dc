"""The capabilities behind Triton."""

from typing import Any, Self

import numpy as np

from longtake_stages.capabilities import describe, to_json
from longtake_stages.checkpoint import served_checkpoint
from longtake_stages.contract import Capabilities
from longtake_stages.serving.bridge import Array, Request


class CapabilitiesModel:
    """Answers ``capabilities`` requests."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._document = to_json(capabilities)

    @classmethod
    def initialize(cls, _pb_utils: Any, _args: dict[str, str]) -> Self:
        """Look at the served checkpoint, once."""
        return cls(describe(served_checkpoint()))

    def answer(self, _request: Request) -> dict[str, Array]:
        """The capabilities as JSON."""
        return {"capabilities": np.array([self._document], dtype=np.object_)}

    def close(self) -> None:
        """Nothing is held."""
