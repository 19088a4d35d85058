"""Results of a made-up model, as its report tells them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from kinetrack.data.index import DroppedRow
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.files import file_md5, write_json
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.tables import write_csv
from kinetrack.using.calibration import reliability_curve
from kinetrack.using.evaluation import (
    class_scores,
    confusion_counts,
    group_metrics,
    overall_metrics,
)
from kinetrack.using.report import Made, Report, describe_sides
from kinetrack.versioning.lock import folder_md5

from factories import model_card, write_packed

_REPORTS = ("metrics.json", "per_class.csv", "confusion.csv", "reliability.csv", "predictions.csv")
PARAMS = {
    "split": {"strategy": "first_groups", "train_groups": 20},
    "train": {"epochs": 2, "watch": ["val"]},
    "evaluate": {"top_k": 2},
}


def write_test_clips(folder: Path, labels: Sequence[str] = ("Jump", "Walk")) -> PackedSide:
    """Packed clips of noise, three a class; returns the test side."""
    return read_sides(write_packed(folder, labels=labels, clips_per_class=3))["test"]


def network(num_classes: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small3dCnn(num_classes=num_classes).eval()


def make_report(
    side: PackedSide,
    *,
    wrong: Sequence[int] = (1,),
    made: Made | None = None,
    params: dict[str, Any] | None = None,
    dropped: Sequence[DroppedRow] = (),
) -> Report:
    """The report of a model that tells all clips of `side` right but those at `wrong`."""
    labels = sorted({row.label for row in side.rows})
    targets = np.array([labels.index(row.label) for row in side.rows])
    probabilities = _answer(targets, len(labels), wrong)
    predicted = probabilities.argmax(axis=1)
    groups = [f"g{place // 2}" for place in range(len(targets))]
    counts = confusion_counts(targets, predicted, num_classes=len(labels))
    return Report(
        dataset="mine",
        card=model_card(labels=labels),
        metrics={
            **overall_metrics(targets, probabilities, top_k=2),
            **group_metrics(predicted == targets, groups),
            "num_views": 1,
            "view_accuracy": 0.5,
            "shuffled_accuracy": 0.25,
        },
        scores=class_scores(targets, predicted, labels=labels),
        confusion=[
            {
                "actual": actual,
                "predicted": other,
                "num_clips": str(counts[i, j]),
                "share": f"{counts[i, j] / max(counts[i].sum(), 1):.6f}",
            }
            for i, actual in enumerate(labels)
            for j, other in enumerate(labels)
        ],
        reliability=[
            {name: str(value) for name, value in one._asdict().items()}
            for one in reliability_curve(targets, probabilities)
        ],
        history=[
            {"epoch": str(epoch), "train_loss": "0.5", "train_accuracy": "0.75", "val_loss": "nan"}
            for epoch in (1, 2)
        ],
        predictions=[
            {
                "clip": row.clip,
                "group": group,
                "video": row.video,
                "actual": row.label,
                "predicted": labels[shares.argmax()],
                "probability": f"{shares.max():.6f}",
                "actual_probability": f"{shares[labels.index(row.label)]:.6f}",
                **{f"p_{label}": f"{x:.6f}" for label, x in zip(labels, shares, strict=True)},
            }
            for row, group, shares in zip(side.rows, groups, probabilities, strict=True)
        ],
        sides=describe_sides(side.rows),
        dropped=list(dropped),
        params=PARAMS | (params or {}),
        made=made or Made(),
    )


def _answer(targets: np.ndarray, num_classes: int, wrong: Sequence[int]) -> np.ndarray:
    """Probabilities, the more sure the later the clip."""
    sure = np.linspace(0.7, 0.95, len(targets))
    answers = np.where(np.isin(np.arange(len(targets)), wrong), targets + 1, targets)
    probabilities = np.repeat(((1 - sure) / (num_classes - 1))[:, None], num_classes, axis=1)
    probabilities[np.arange(len(targets)), answers % num_classes] = sure
    return probabilities


def write_reports(folder: Path, report: Report) -> None:
    """The reports of the stages train and evaluate."""
    evaluate = folder / "reports/evaluate"
    write_json(evaluate / "metrics.json", report.metrics)
    tables: dict[str, Any] = {
        "per_class": [one._asdict() for one in report.scores],
        "confusion": report.confusion,
        "reliability": report.reliability,
        "predictions": report.predictions,
    }
    for name, rows in tables.items():
        write_csv(evaluate / f"{name}.csv", list(rows[0]), rows)
    write_csv(folder / "reports/train/history.csv", list(report.history[0]), report.history)


def write_lock(folder: Path) -> None:
    """The lock of a project that has all of this, as DVC would write it."""

    def entry(path: str) -> dict[str, str]:
        place = folder / path
        return {"path": path, "md5": folder_md5(place) if place.is_dir() else file_md5(place)}

    stages = {
        "tensors": {"outs": [entry("data/tensors/mine")]},
        "train": {"outs": [entry("data/model"), entry("reports/train/history.csv")]},
        "evaluate": {
            "deps": [entry("data/tensors/mine"), entry("data/model")],
            "outs": [entry(f"reports/evaluate/{name}") for name in _REPORTS],
        },
        "split": {"params": {"params.yaml": {"split": PARAMS["split"]}}},
    }
    stages["train"]["params"] = {"params.yaml": {"train": PARAMS["train"], "frames.gaps": "keep"}}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
