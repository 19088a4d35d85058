"""Stores of MLflow that others left."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Before there were tables for inputs, logged models and much else: MLflow 1.28 to 2.2.
OLD_REVISION = "cc1f77228345"
# One finished run with a param, two values of a metric and a tag, one experiment of its own.
_CONTENTS = """
INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES
    (0, 'Default', './mlruns/0', 'active'), (7, 'golf', './mlruns/7', 'active');
INSERT INTO runs (run_uuid, name, source_type, source_name, status, start_time, end_time,
                  lifecycle_stage, artifact_uri, experiment_id, user_id) VALUES
    ('0123456789abcdef0123456789abcdef', 'swing', 'LOCAL', 'train.py', 'FINISHED',
     1600000000000, 1600000060000, 'active',
     './mlruns/7/0123456789abcdef0123456789abcdef/artifacts', 7, 'ann');
INSERT INTO params (key, value, run_uuid) VALUES
    ('lr', '0.1', '0123456789abcdef0123456789abcdef');
INSERT INTO tags (key, value, run_uuid) VALUES
    ('mlflow.runName', 'swing', '0123456789abcdef0123456789abcdef'),
    ('place', 'course', '0123456789abcdef0123456789abcdef');
INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES
    ('loss', 2.5, 1600000001000, 1, 0, '0123456789abcdef0123456789abcdef'),
    ('loss', 1.5, 1600000002000, 2, 0, '0123456789abcdef0123456789abcdef');
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES
    ('loss', 1.5, 1600000002000, 2, 0, '0123456789abcdef0123456789abcdef');
"""


def make_old_database(path: Path) -> None:
    """Put a database with that run in the place of `path`, made by MLflow's own migrations."""
    import mlflow.store.db.utils as mlflow_db
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = mlflow_db._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD_REVISION)
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_CONTENTS)


def make_foreign_store(folder: Path, empty_database: Path) -> Path:
    """Make a folder with a database and its `mlruns`, and give it another name: `folder`.

    So the addresses of its files, which are absolute, are those of folders that are gone.
    """
    from mlflow import MlflowClient

    first = folder.with_name("where it was")
    first.mkdir(parents=True)
    shutil.copy(empty_database, first / "mlflow.db")
    uri = f"sqlite:///{first}/mlflow.db"
    client = MlflowClient(uri, uri)
    place = client.create_experiment("golf", str(first / "mlruns" / "1"), {"club": "iron"})
    _fill(client, place)
    first.rename(folder)
    return folder


def _fill(client: "MlflowClient", place: str) -> None:
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelInput,
        LoggedModelOutput,
        Metric,
        Param,
    )

    parent = client.create_run(place, 1000, {"mlflow.user": "ann"}, "parent").info.run_id
    tags = {"mlflow.parentRunId": parent, "place": "course"}
    child = client.create_run(place, 2000, tags, "child").info.run_id
    params = [Param(f"p{number}", str(number)) for number in range(150)]
    for part in (params[:100], params[100:]):
        client.log_batch(child, params=part)
    losses = [Metric("loss", 1 / step, 5000 + step, step) for step in range(1, 10)]
    client.log_batch(child, metrics=losses)
    client.log_batch(child, metrics=[Metric("odd", float("nan"), 5000, 3)])
    dataset = Dataset("clips", "abc", "local", "{}")
    inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
    client.log_inputs(child, datasets=inputs)
    client.log_text(child, "hello", "notes/a b.txt")
    model = client.create_logged_model(place, "net", child, {"kind": "small"}, {"lr": "1"}, "agent")
    metric = Metric("acc", 0.5, 7000, 1, model.model_id, "clips", "abc", run_id=child)
    client.log_batch(child, metrics=[metric])
    client.log_outputs(child, [LoggedModelOutput(model.model_id, 4)])
    client.log_inputs(parent, models=[LoggedModelInput(model.model_id)])
    _register(client, child, model.model_id)
    client.set_terminated(child, "FINISHED", 9000)
    client.set_terminated(parent, "KILLED", 9500)
    client.create_run(place, 3000, run_name="at work")
    client.delete_run(client.create_run(place, run_name="deleted").info.run_id)


def _register(client: "MlflowClient", run_id: str, model_id: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "weights").write_text("1 2 3")
        client.log_model_artifacts(model_id, scratch)
        client.log_artifacts(run_id, scratch, "old way")
    client.finalize_logged_model(model_id, "READY")
    client.create_registered_model("net", {"team": "golf"}, "swings")
    uri = client.get_run(run_id).info.artifact_uri
    client.create_model_version("net", f"{uri}/old way", run_id, {"a": "1"}, description="first")
    location = client.get_logged_model(model_id).artifact_location
    client.create_model_version("net", location, run_id, model_id=model_id)
    client.set_registered_model_alias("net", "best", "2")
