"""The model as MLflow serves it: uint8 clips in, class probabilities out.

MLflow stores this file as code beside the model and runs it on loading, so nothing is pickled.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kinetrack.using.inference import load_recogniser


class ClipClassifier(PythonModel):
    """An action recogniser for whole batches of clips."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged."""
        self._recogniser = load_recogniser(Path(context.artifacts["model"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Return probabilities (N, K) float32 of clips (N, 3, T, H, W) uint8."""
        return self._recogniser.probabilities(model_input)


mlflow.models.set_model(ClipClassifier())
