"""What MLflow asks of the served model; tests/using/test_served.py asks it over HTTP."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext

from kinetrack.errors import InputError, WriteError
from kinetrack.tracking import model as logging
from kinetrack.using import serving


class Answerer:
    """Answers with the folder that it was loaded from, and what it was asked."""

    error: InputError | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, rows: list[tuple[Any, Any]], **params: Any) -> list[dict[str, Any]]:
        if self.error:
            raise self.error
        return [{"folder": self.folder, "row": row, "params": params} for row in rows]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> serving.VideoClassifier:
    monkeypatch.setattr(serving, "load_answerer", Answerer)
    model = serving.VideoClassifier()
    model.load_context(PythonModelContext({"model": str(tmp_path)}, None))
    return model


def ask(model: serving.VideoClassifier, table: pd.DataFrame, **params: Any) -> list[dict[str, Any]]:
    answers = model.predict(PythonModelContext({}, None), table, params)
    return answers.to_dict("records")


def test_answers_with_the_logged_model(model: serving.VideoClassifier, tmp_path: Path) -> None:
    first, second = ask(model, pd.DataFrame({"video": ["a", b"b"]}), top=1, views=2)
    assert first == {"folder": tmp_path, "row": ("a", None), "params": {"top": 1, "views": 2}}
    assert second["row"] == (b"b", None)


def test_what_a_row_lacks_is_none(model: serving.VideoClassifier) -> None:
    table = pd.DataFrame([{"video": "a"}, {"path": "b"}, {}, {"video": ["c"]}])
    rows = [answer["row"] for answer in ask(model, table)]
    assert rows == [("a", None), (None, "b"), (None, None), (["c"], None)]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pd.DataFrame({"clip": ["a"]}), "the table: has no column video and none of path"),
        (pd.DataFrame({"video": []}), "the table: has no row"),
    ],
)
def test_table_without_videos_is_a_bad_request(
    model: serving.VideoClassifier, table: pd.DataFrame, problem: str
) -> None:
    with pytest.raises(MlflowException, match=problem) as caught:
        ask(model, table)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize(("kind", "status"), [(InputError, 400), (WriteError, 503)])
def test_error_tells_whose_fault_it_is(
    model: serving.VideoClassifier,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[InputError],
    status: int,
) -> None:
    monkeypatch.setattr(Answerer, "error", kind("views", "is no number"))
    with pytest.raises(MlflowException, match="views: is no number") as caught:
        ask(model, pd.DataFrame({"video": ["a"]}))
    assert caught.value.get_http_status_code() == status


def test_model_asks_for_all_packages_that_it_imports() -> None:
    graph = grimp.build_graph(
        "kinetrack",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    found, waiting = set(), ["kinetrack.using.serving"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if name.startswith("kinetrack"):
                waiting += graph.find_modules_directly_imported_by(name)
    packages = {name for name in found if not name.startswith("kinetrack")}
    needed = {{"PIL": "pillow"}.get(name, name) for name in packages - sys.stdlib_module_names}
    asked = {requirement.partition("==")[0] for requirement in logging._pip_requirements()}
    assert needed == asked


def test_model_loads_nothing_of_the_pipeline() -> None:
    """Its environment has what `tracking.model` lists, which is little."""
    code = (
        "import sys, kinetrack.using.answering;"
        " print(*({'joblib', 'typer', 'dvc', 'yaml', 'captum'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.split() == []
