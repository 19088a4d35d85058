"""The model as MLflow serves it: a table of videos in, a table of labels with probabilities out.

MLflow stores this file as code beside the model and runs it on loading, so nothing is pickled.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kinetrack.errors import InputError, WriteError
from kinetrack.using.answering import load_answerer


class VideoClassifier(PythonModel):
    """An action recogniser for videos; one that cannot be used has its reason in the answer."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged, and the limits of this server."""
        self._answerer = load_answerer(Path(context.artifacts["model"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer for each row of a table with the column `video` or `path`, in its order.

        Raises:
            MlflowException: the request as a whole cannot be answered.
        """
        try:
            return pd.DataFrame(self._answerer.answer(_read_rows(model_input), **params or {}))
        except WriteError as error:
            raise MlflowException(str(error), error_code=TEMPORARILY_UNAVAILABLE) from None
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


def _read_rows(table: pd.DataFrame) -> list[tuple[Any, Any]]:
    """The videos and paths; None where there is none."""
    if not {"video", "path"} & set(table.columns):
        raise InputError("the table", "has no column video and none of path")
    if table.empty:
        raise InputError("the table", "has no row")
    videos, paths = (_read_column(table, name) for name in ("video", "path"))
    return list(zip(videos, paths, strict=True))


def _read_column(table: pd.DataFrame, name: str) -> list[Any]:
    if name not in table.columns:
        return [None] * len(table)
    return [None if pd.api.types.is_scalar(one) and pd.isna(one) else one for one in table[name]]


mlflow.models.set_model(VideoClassifier())
