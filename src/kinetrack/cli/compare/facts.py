"""A comparison as plain values, for JSON."""

from collections.abc import Mapping
from typing import Any

from kinetrack.cli.compare.comparison import Compared, Comparison
from kinetrack.cli.compare.results import Part, count_clips
from kinetrack.using.comparison import (
    Difference,
    JudgedClip,
    accuracy,
    accuracy_interval,
    are_grouped,
    class_recalls,
    macro_f1,
)

_DIGITS = 6


def describe(comparison: Comparison) -> dict[str, Any]:
    """Describe a comparison as plain values for JSON."""
    clips = comparison.results[0].result.clips
    groups = {one.group for one in clips}
    return {
        "num_clips": count_clips(clips),
        "num_tests": len(clips),
        "num_groups": len(groups) if are_grouped(clips) else None,
        "confidence": 0.95,
        "runs": [_describe(one) for one in comparison.results],
        "notes": comparison.notes,
    }


def _describe(compared: Compared) -> dict[str, Any]:
    result, difference = compared.result, compared.difference
    return {
        "name": result.record.name if result.record else result.name,
        "run_id": result.record.run_id if result.record else None,
        "accuracy": round(accuracy(result.clips), _DIGITS),
        "interval": _round_pair(accuracy_interval(result.clips)),
        "f1_macro": round(macro_f1(result.clips), _DIGITS),
        "recalls": _round_values(class_recalls(result.clips)),
        "parts": [_describe_part(part) for part in result.parts],
        "difference": _describe_difference(difference) if difference else None,
        "changed_sides": [_describe_pair(*pair) for pair in compared.changed or ()],
    }


def _describe_part(part: Part) -> dict[str, Any]:
    return {
        "run_id": part.run_id,
        "fold": part.fold or None,
        "repetition": part.repetition or None,
        "accuracy": round(accuracy(part.clips), _DIGITS),
        "num_clips": len(part.clips),
    }


def _describe_difference(difference: Difference) -> dict[str, Any]:
    return {
        "accuracy": round(difference.difference, _DIGITS),
        "interval": _round_pair(difference.interval),
        "p_value": difference.p_value,
        "num_lost": difference.num_lost,
        "num_won": difference.num_won,
        "f1_macro": round(difference.f1_difference, _DIGITS),
        "recalls": _round_values(difference.recall_differences),
    }


def _describe_pair(one: JudgedClip, other: JudgedClip) -> dict[str, Any]:
    return {
        "clip": one.clip,
        "repetition": one.repetition or None,
        "label": one.label,
        "group": one.group or None,
        "is_right": [one.is_right, other.is_right],
        "predicted": [one.predicted, other.predicted],
        "probability": [one.probability, other.probability],
        "actual_probability": [one.actual_probability, other.actual_probability],
    }


def _round_pair(pair: tuple[float, float] | None) -> list[float] | None:
    return [round(bound, _DIGITS) for bound in pair] if pair else None


def _round_values(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}
