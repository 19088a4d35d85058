"""The whole pipeline as a user runs it: real DVC, Git and MLflow, in a project of its own."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from kinetrack.learning.checkpoint import load_model
from kinetrack.params import Yaml12Loader, load_params
from kinetrack.versioning.lock import folder_md5, hash_of_inputs, stage_key

from project import ROOT, Project, environment, make_project


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project, in a path with a space, after `dvc repro`; tests leave it as it is."""
    project = make_project(tmp_path_factory.mktemp("a project") / "tiny project")
    project.run("dvc", "repro")
    project.commit("repro")
    return project


@pytest.fixture
def in_project(done: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(done.folder)
    for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    return done


def test_everything_that_the_contract_names_is_there(done):
    for path in (
        "data/videos/sample/Grow/v_Grow_g01_c01.avi",
        "data/frames/sample/Grow/v_Grow_g01_c01.zip",
        "data/frames/sample/index.csv",
        "data/splits/split.json",
        "data/splits/train.pkl",
        "data/splits/val.pkl",
        "data/splits/test.pkl",
        "data/splits/dropped.csv",
        "data/tensors/sample/train/Grow/v_Grow_g01_c01.pt",
        "data/tensors/sample/index.csv",
        "data/model/weights.safetensors",
        "data/model/model.json",
        "reports/train/history.csv",
        "reports/evaluate/metrics.json",
        "mlruns/mlflow.db",
    ):
        assert (done.folder / path).is_file(), path


def test_a_second_repro_does_nothing_and_leaves_git_clean(done):
    result = done.run("dvc", "repro")
    assert "Running stage" not in result.stdout
    assert done.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in done.run("dvc", "status").stdout


def test_no_partial_file_is_left(done):
    assert list(done.folder.glob("data/**/.*partial*")) == []


def test_reports_hold_the_figures(done):
    with (done.folder / "reports/train/history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert float(history[1]["val_accuracy"]) <= 1
    metrics = json.loads((done.folder / "reports/evaluate/metrics.json").read_text())
    assert metrics["num_clips"] == 6
    assert {"accuracy", "top_2_accuracy", "f1_macro"} <= set(metrics)


def test_dvc_shows_metrics_and_plots(done):
    shown = json.loads(done.run("dvc", "metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    assert set(files) == {"reports/train/metrics.json", "reports/evaluate/metrics.json"}
    plots = json.loads(done.run("dvc", "plots", "show", "--json").stdout)
    assert {"Loss", "Accuracy", "reports/evaluate/confusion.csv"} <= set(plots["data"])
    assert plots.get("errors", []) == []
    done.run("dvc", "plots", "show", "-o", "page")
    page = (done.folder / "page/index.html").read_text()
    shutil.rmtree(done.folder / "page")
    assert "Confusion matrix, test clips" in page
    assert "DVC_METRIC" not in page


def test_no_output_holds_a_time_or_a_run_id(done, run):
    outputs = [*done.folder.glob("reports/**/*.*"), done.folder / "data/model/model.json"]
    for path in outputs:
        text = path.read_text()
        assert run.info.run_id not in text
        assert not re.search(r"20\d\d-\d\d|seconds", text), path


@pytest.fixture
def run(in_project):
    from kinetrack.tracking.store import open_store

    client = open_store()
    [experiment] = [found for found in client.search_experiments() if found.name == "sample"]
    [run] = client.search_runs([experiment.experiment_id])
    return run


def test_the_run_holds_params_epochs_and_results(done, run):
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["dataset"] == "sample"
    assert {"train/loss", "val/accuracy", "train/seconds", "train/clips_per_s"} <= set(
        run.data.metrics
    )
    metrics = json.loads((done.folder / "reports/evaluate/metrics.json").read_text())
    assert run.data.metrics["test/accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-6)


def test_the_run_knows_commit_data_split_and_model(done, run):
    lock = yaml.safe_load((done.folder / "dvc.lock").read_text())["stages"]
    tensors = lock["tensors"]["outs"][0]["md5"]
    tags = run.data.tags
    sides = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert tags["git.commit"] == done.run("git", "rev-parse", "HEAD~").stdout.strip()
    assert tags["git.dirty"] == "false"
    assert tags["data.tensors_md5"] == tensors
    assert sides == {
        f"sample-{side}": folder_md5(done.folder / "data/tensors/sample" / side)
        for side in ("train", "val", "test")
    }
    assert tags["data.videos_md5"] == lock["sample"]["outs"][0]["md5"]
    _, card = load_model(done.folder / "data/model")
    assert tags["model_sha256"] == card.weights_sha256
    assert tags["model_md5"] == lock["train"]["outs"][0]["md5"]


def test_the_train_key_is_the_hash_of_the_locked_inputs(done, run):
    # By YAML 1.2: to 1.1, 4:2:0 is a number.
    lock = yaml.load((done.folder / "dvc.lock").read_text(), Yaml12Loader)
    locked = lock["stages"]["train"]
    deps = {dep["path"]: dep["md5"] for dep in locked["deps"]}
    key = hash_of_inputs(locked["cmd"], deps, locked["params"]["params.yaml"])
    params = load_params(done.folder / "params.yaml")
    assert run.data.tags["train_key"] == key == stage_key("train", params, root=done.folder)


def test_a_run_predicts_videos_as_the_present_model_does(done, run):
    video = min((done.folder / "data/videos/sample/MoveLeft").iterdir())
    answers = []
    for options in ((), ("--model", run.info.run_id[:8]), ("--model", "data/model")):
        command = ("python", "-m", "kinetrack.cli.main", "predict", str(video), "--json", *options)
        answers.append(done.run(*command).stdout)
    assert answers[0] == answers[1] == answers[2]
    assert json.loads(answers[0])["status"] == "ok"


def test_a_report_of_the_run_is_made_of_what_the_pipeline_left(done, run):
    said = done.run("python", "-m", "kinetrack.cli.main", "report").stdout
    assert run.info.run_id[:8] in said
    html = (done.folder / ".kinetrack/pages/report.html").read_text()
    assert run.info.run_id in html
    assert run.data.tags["git.commit"] in html
    assert html.count('Where the network looked in frame 1">') == 6
    assert done.run("git", "status", "--porcelain").stdout == ""


def test_the_logged_model_predicts_the_same(in_project, run, monkeypatch):
    import mlflow
    import pandas

    from kinetrack.using.inference import load_recogniser

    ours = load_recogniser(in_project.folder / "data/model")
    videos = sorted(in_project.folder.glob("data/videos/sample/*/*.avi"))[:2]
    [model] = run.outputs.model_outputs
    # Not `set_tracking_uri`: it stays for the tests that come after in this process.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{in_project.folder}/mlruns/mlflow.db")
    logged = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    answers = logged.predict(pandas.DataFrame({"video": [one.read_bytes() for one in videos]}))
    for video, answer in zip(videos, answers.to_dict("records"), strict=True):
        expected = ours.predict(video)
        assert answer["labels"] == list(expected.labels)
        assert answer["probabilities"] == pytest.approx(expected.probabilities)


def test_stages_refuse_another_checkouts_code(done, tmp_path):
    result = done.run(
        "python",
        "-c",
        "import os, runpy, sys; sys.path.insert(0, 'src'); import kinetrack; "
        f"os.chdir({str(tmp_path)!r}); sys.argv = ['split', 'a', 'b']; "
        "runpy.run_module('kinetrack.stages.split', run_name='__main__')",
        check=False,
    )
    assert result.returncode == 2
    assert "is not the code of this checkout" in result.stderr


@pytest.mark.slow
def test_params_there_and_back_train_twice_not_three_times(done, tmp_path):
    project = clone(done, tmp_path / "clone")
    project.run("dvc", "repro")
    first = (project.folder / "reports/train/history.csv").read_text()
    project.set_params(train={"epochs": 1})
    assert "Running stage 'train'" in project.run("dvc", "repro").stdout
    project.set_params(train={"epochs": 2})
    back = project.run("dvc", "repro").stdout
    assert "Stage 'train' is cached - skipping run" in back
    assert "Running stage 'train'" not in back
    assert (project.folder / "reports/train/history.csv").read_text() == first


@pytest.mark.slow
def test_two_clones_make_the_same_lock_and_both_have_a_whole_run(done, tmp_path):
    project = clone(done, tmp_path / "clone")
    assert "Stage 'evaluate' didn't change" in project.run("dvc", "repro").stdout
    assert (project.folder / "dvc.lock").read_text() == (done.folder / "dvc.lock").read_text()
    assert project.run("git", "status", "--porcelain").stdout == ""
    [before] = runs_of(project)
    assert "test/accuracy" not in before.data.metrics
    for _ in range(2):
        tracked = project.run("python", "-m", "kinetrack.cli.main", "track")
        assert tracked.stdout == "track: 1 run has its test result\n"
    [run], [original] = runs_of(project), runs_of(done)
    assert run.data.metrics["test/accuracy"] == original.data.metrics["test/accuracy"]
    assert run.data.tags["train_key"] == original.data.tags["train_key"]


@pytest.mark.slow
def test_a_remote_brings_everything_to_a_clone(done, tmp_path):
    sender = clone(done, tmp_path / "sender", with_cache=True)
    sender.run("dvc", "remote", "add", "-d", "team", str(tmp_path / "a remote"))
    sender.commit("remote")
    sender.run("dvc", "push")
    receiver = clone(sender, tmp_path / "receiver")
    receiver.run("dvc", "pull")
    assert "Running stage" not in receiver.run("dvc", "repro").stdout
    assert receiver.run("git", "status", "--porcelain").stdout == ""
    for name in ("data/model/weights.safetensors", "data/tensors/sample/index.csv"):
        assert (receiver.folder / name).read_bytes() == (done.folder / name).read_bytes()


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_it_records(done, tmp_path):
    project = clone(done, tmp_path / "clone", with_cache=True)
    project.run("dvc", "checkout")
    stage = project.folder / "src/kinetrack/stages/train.py"
    original = stage.read_text()
    stage.write_text(original.replace('f"epoch {epoch.number}: ', 'f"EXPERIMENT {epoch.number}: '))
    project.run("dvc", "exp", "run", "--queue", "--name", "other-code", "-S", "train.epochs=1")
    stage.write_text(original)  # the workspace goes back before the worker starts
    result = project.run("dvc", "exp", "run", "--run-all")
    assert (
        "EXPERIMENT 1:"
        in result.stdout + project.run("dvc", "queue", "logs", "other-code", check=False).stdout
    )
    branch = project.run("dvc", "exp", "branch", "other-code", "recorded").stdout
    recorded = project.run("git", "show", "recorded:src/kinetrack/stages/train.py").stdout
    assert "EXPERIMENT" in recorded, branch
    runs = runs_of(project)
    assert {run.data.tags["dvc.exp_name"] for run in runs} == {"other-code"}
    assert runs[0].data.params["train.epochs"] == "1"


@pytest.mark.slow
def test_c1_a_second_repro_is_refused_and_the_first_one_finishes(done, tmp_path):
    project = clone(done, tmp_path / "clone", with_cache=True)
    project.run("dvc", "checkout")
    project.set_params(train={"epochs": 40})
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    while not (line := first.stdout.readline()).startswith("epoch 1:"):
        assert line, "the first one ended"
    second = project.run("dvc", "repro", check=False)
    assert second.returncode != 0
    assert "running" not in second.stdout.lower()
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert project.run("dvc", "status", "train", "evaluate").stdout.strip().endswith("up to date.")
    assert [run.info.status for run in runs_of(project)] == ["FINISHED"]


@pytest.mark.slow
def test_a_terminated_training_ends_clean(done, tmp_path):
    project = clone(done, tmp_path / "clone", with_cache=True)
    project.run("dvc", "checkout")
    shutil.rmtree(project.folder / "data/model")
    project.set_params(train={"epochs": 10_000})
    arguments = ["data/tensors/sample", "data/model", "reports/train"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kinetrack.stages.train", *arguments],
        cwd=project.folder,
        env={**environment(), "PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "train: starts\n"
    assert process.stdout.readline().startswith("epoch 1:")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert [run.info.status for run in runs_of(project)] == ["KILLED"]
    assert not (project.folder / "data/model").exists()
    assert list(project.folder.glob("data/.*")) == [project.folder / "data/.gitignore"]


@pytest.mark.slow
def test_make_repro_refuses_before_dvc_and_clean_spares_what_is_not_made(done, tmp_path):
    project = clone(done, tmp_path / "a clone", with_cache=True)
    project.run("dvc", "checkout")
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, project.folder / name)
    borrow_environment(project.folder / ".venv")
    time.sleep(0.01)  # the stamp is younger than what it stands for
    (project.folder / ".venv/installed").touch()
    project.set_params(train={"epochs": 0})
    refused = project.run("make", "repro", check=False)
    assert refused.returncode == 2
    assert "train.epochs" in refused.stderr.splitlines()[0]
    assert (project.folder / "data/model/model.json").exists()
    kept = [project.folder / path for path in ("mlruns/mlflow.db", "data/videos/mine/A/a.avi")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    project.run("make", "clean")
    assert all(path.exists() for path in kept)
    for path in ("data/model", "data/frames/sample", "data/tensors/sample", "data/videos/sample"):
        assert not (project.folder / path).exists()


def borrow_environment(folder: Path) -> None:
    """Make an environment that holds the packages of this one."""
    shutil.copytree(Path(sys.prefix) / "bin", folder / "bin", symlinks=True)
    shutil.copyfile(Path(sys.prefix) / "pyvenv.cfg", folder / "pyvenv.cfg")
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")


def clone(project: Project, folder: Path, *, with_cache: bool = False) -> Project:
    """Clone by Git; the cache is what only `dvc push` and `pull` would bring."""
    project.run("git", "clone", "-q", str(project.folder), str(folder))
    cloned = Project(folder)
    if with_cache:
        cloned.run("dvc", "config", "--local", "cache.dir", str(project.folder / ".dvc/cache"))
    return cloned


def runs_of(project: Project) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    experiments = [found.experiment_id for found in client.search_experiments()]
    return list(client.search_runs(experiments))
