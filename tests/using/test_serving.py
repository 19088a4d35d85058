from pathlib import Path

import numpy as np
import pytest
from mlflow.pyfunc.model import PythonModelContext

from kinetrack.using import serving


class Recogniser:
    """Answers with the folder that it was loaded from and the clips that it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def probabilities(self, clips: np.ndarray) -> np.ndarray:
        return np.full((len(clips), 2), 0.5, np.float32)


def test_answers_with_the_logged_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serving, "load_recogniser", Recogniser)
    model = serving.ClipClassifier()
    context = PythonModelContext({"model": str(tmp_path)}, None)
    model.load_context(context)
    answer = model.predict(context, np.zeros((3, 3, 4, 8, 8), np.uint8))
    assert model._recogniser.folder == tmp_path
    assert answer.shape == (3, 2)
