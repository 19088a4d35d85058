"""A model folder as an MLflow model that needs neither this project nor pickle to be loaded."""

import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import Model, ModelSignature

_NAME = "model"
_PACKAGE = Path(__file__).parent.parent
_SERVING_CODE = _PACKAGE / "using" / "serving.py"
# What loading and predicting import. Named here since finding it out takes MLflow half a minute.
_REQUIREMENTS = (
    *("av", "mlflow", "numpy", "pandas", "pillow", "psutil", "pydantic", "safetensors"),
    *("torch", "torchvision"),
)


def begin_served_model(client: "MlflowClient", run: "Run") -> "LoggedModel":
    """Return the one model of a run, made when missing: metrics may be bound to it at once."""
    from mlflow.entities import LoggedModelOutput

    logged = find_served_model(client, run) or client.create_logged_model(
        run.info.experiment_id, _NAME, source_run_id=run.info.run_id, params=run.data.params
    )
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def finish_served_model(client: "MlflowClient", logged: "LoggedModel", folder: Path) -> None:
    """Give a logged model its files: a model folder, and the code that loads it.

    Done with the client, since `mlflow.pyfunc.log_model` works on global state: it would leave
    MLFLOW_TRACKING_URI set for the rest of the process.
    """
    from mlflow.models import Model

    description = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
        model_uuid=logged.model_id,
    )
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary, _NAME)
        _save(saved, folder, description=description)
        client.log_model_artifacts(logged.model_id, str(saved))
    client.finalize_logged_model(logged.model_id, "READY")


def find_served_model(client: "MlflowClient", run: "Run") -> "LoggedModel | None":
    """Return the model of a run, which may be half-logged, None when it has none."""
    of_the_run = f"source_run_id = '{run.info.run_id}' AND name = '{_NAME}'"
    found = client.search_logged_models([run.info.experiment_id], of_the_run)
    return found[0] if found else None


def _save(saved: Path, folder: Path, *, description: "Model") -> None:
    import mlflow.pyfunc

    with warnings.catch_warnings():
        # It would be somebody's video.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        mlflow.pyfunc.save_model(
            saved,
            python_model=str(_SERVING_CODE),  # stored as code: nothing is pickled
            artifacts={"model": str(folder.absolute())},
            code_paths=[str(_PACKAGE)],
            pip_requirements=_pip_requirements(),
            mlflow_model=description,
            signature=_signature(),
        )


def _signature() -> "ModelSignature":
    """As `kinetrack.using.serving` reads and answers.

    A video is text to MLflow, also where bytes are sent: of its binary type, one that is no base64
    would end the request of all.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    text, whole, real = DataType.string, DataType.long, DataType.double
    return ModelSignature(
        inputs=Schema([ColSpec(text, name, required=False) for name in ("video", "path")]),
        outputs=Schema(
            [
                ColSpec(text, "status"),
                ColSpec(text, "reason"),
                ColSpec(Array(text), "labels"),
                ColSpec(Array(real), "probabilities"),
                ColSpec(whole, "num_frames"),
                ColSpec(Array(text), "notes"),
            ]
        ),
        params=ParamSchema([ParamSpec("top", whole, None), ParamSpec("views", whole, None)]),
    )


def _pip_requirements() -> list[str]:
    # Without the local part: no package index has torch 2.14.1+cpu.
    return [f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS]
