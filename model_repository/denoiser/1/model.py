"""Context and conditions to latents: what Triton calls. All that it does lies in ``longtake_stages``."""

from typing import Any

import triton_python_backend_utils as pb_utils

from longtake_stages.serving.bridge import serve_decoupled
from longtake_stages.serving.denoiser import DenoiserModel


class TritonPythonModel:
    """Triton's name for a model's instance."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = DenoiserModel.initialize(pb_utils, args)

    def execute(self, requests: list[Any]) -> None:
        serve_decoupled(pb_utils, self._model, requests)

    def finalize(self) -> None:
        self._model.close()
