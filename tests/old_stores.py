"""Stores of MLflow as earlier versions left them."""

import sqlite3
from contextlib import closing
from pathlib import Path

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
