"""The notebook: kept without outputs, and executed in a project that has a run."""

import ast
import base64
import io
import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from PIL import Image

from project import ROOT, Project, environment, make_project

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK = ROOT / "notebooks/a_run.ipynb"
# What a person puts in to have the model in its place, as the notebook tells.
OF_THE_RUN, IN_PLACE = "kinetrack.load(runs[0].run_id)", 'kinetrack.load(root / "data/model")'


def read_notebook() -> "NotebookNode":
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: "NotebookNode") -> "dict[str, NotebookNode]":
    """The cells with code, by their names."""
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def test_there_is_one_and_it_is_valid() -> None:
    assert list(NOTEBOOK.parent.iterdir()) == [NOTEBOOK]
    notebook = read_notebook()
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)


def test_no_output_is_kept() -> None:
    """It would show people's clips, and what it tells would be of another machine."""
    notebook = read_notebook()
    assert {tuple(cell.outputs) for cell in code_cells(notebook).values()} == {()}
    assert {cell.execution_count for cell in code_cells(notebook).values()} == {None}
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}  # the version is a machine's


def test_every_cell_with_code_is_told_of_before() -> None:
    kinds = [cell.cell_type for cell in read_notebook().cells]
    assert kinds == ["markdown", "code"] * (len(kinds) // 2)


def test_it_stands_on_public_names_alone() -> None:
    code = "\n".join(cell.source for cell in code_cells(read_notebook()).values())
    tree = ast.parse(re.sub(r"^%.*", "", code, flags=re.MULTILINE))
    used = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used += [*str(node.module).split("."), *(name.name for name in node.names)]
    assert [name for name in used if name.startswith("_")] == []
    assert {"load", "list_runs", "class_saliency"} <= {*used}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with the notebook in its place."""
    project = make_project(tmp_path_factory.mktemp("notebook") / "project")
    shutil.copytree(NOTEBOOK.parent, project.folder / "notebooks")
    project.run("dvc", "repro")
    return project


def execute(project: Project, *, instead: Mapping[str, str]) -> dict[str, list[Any]]:
    """Run all cells in the project's notebooks/; what each shows, by its name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Jupyter is migrating", category=Warning)
        from nbclient import NotebookClient
    notebook = read_notebook()
    for cell in code_cells(notebook).values():
        for one, other in instead.items():
            cell.source = cell.source.replace(one, other)
    scratch = str(project.folder.parent)
    environ = {**environment(), "PYTHONPATH": str(project.folder / "src"), "IPYTHONDIR": scratch}
    place = {"metadata": {"path": str(project.folder / "notebooks")}}
    NotebookClient(notebook, startup_timeout=300, timeout=300, resources=place).execute(env=environ)
    return {name: cell.outputs for name, cell in code_cells(notebook).items()}


@pytest.mark.slow
@pytest.mark.parametrize("instead", [{}, {OF_THE_RUN: IN_PLACE}], ids=["run", "data/model"])
def test_it_shows_runs_answers_clips_and_where_was_looked(
    trained: Project, instead: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    code = code_cells(read_notebook())["model"].source
    assert all(one in code for one in instead)
    shown = execute(trained, instead=instead)
    assert [one for outputs in shown.values() for one in outputs if "data" not in one] == []
    (run,) = json.loads(trained.run("kinetrack", "runs", "--json").stdout)
    assert run["run_id"][:8] in the_html(shown["runs"])
    assert run["name"] in the_text(shown["model"])
    judged = the_html(shown["judged"])
    predictions = (trained.folder / "reports/evaluate/predictions.csv").read_text()
    clips = [line.partition(",")[0] for line in predictions.splitlines()[1:]]
    assert [clip for clip in clips if clip not in judged] == []
    assert len(shown["strips"]) == 3
    for strip in shown["strips"]:
        check_strip(strip["data"]["text/html"])
    (chart,) = (one["data"]["image/png"] for one in shown["shares"])
    assert is_picture(base64.b64decode(chart))
    check_answer(trained, the_text(shown["video"]))


def the_html(outputs: list[Any]) -> str:
    (one,) = outputs
    return str(one["data"]["text/html"])


def the_text(outputs: list[Any]) -> str:
    (one,) = outputs
    return str(one["data"]["text/plain"])


def is_picture(content: bytes) -> bool:
    """Whether it is one, and more than an empty sheet."""
    with Image.open(io.BytesIO(content)) as image:
        return len(image.convert("RGB").resize((64, 64)).getcolors(4096) or []) > 10


def check_strip(html: str) -> None:
    """Six frames, and below them the same with what is salient over them."""
    pictures = re.findall(r'src="data:image/jpeg;base64,([\w+/=]+)"', html)
    assert len(pictures) == len(set(pictures)) == 12
    assert all(is_picture(base64.b64decode(picture)) for picture in pictures)


def check_answer(project: Project, told: str) -> None:
    """It is that of the command line."""
    name, top = ast.literal_eval(told)
    (video,) = (project.folder / "data/videos/sample").rglob(name)
    answered = project.run("kinetrack", "predict", str(video), "--top", "3", "--json").stdout
    labels = {one["label"]: one["probability"] for one in json.loads(answered)["labels"]}
    assert dict(top) == pytest.approx(labels, abs=1e-5)
