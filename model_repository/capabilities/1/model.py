"""What the served checkpoint can do: what Triton calls. All that it does lies in ``longtake_stages``."""

from typing import Any

import triton_python_backend_utils as pb_utils

from longtake_stages.serving.bridge import serve_unary
from longtake_stages.serving.capabilities import CapabilitiesModel


class TritonPythonModel:
    """Triton's name for a model's instance."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = CapabilitiesModel.initialize(pb_utils, args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return serve_unary(pb_utils, self._model, requests)

    def finalize(self) -> None:
        self._model.close()
