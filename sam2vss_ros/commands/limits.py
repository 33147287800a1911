"""`--fail-under`: the figures of an evaluation, and which of them are under their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam2vss_ros.errors import InputError


def figures_of(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Every number of an evaluation's JSON by its key; those of a class as per_class_iou.Car."""
    figures: dict[str, float | None] = {}
    for key, value in result.items():
        if value is None or isinstance(value, int | float):
            figures[key] = value
        elif key.startswith("per_class_"):
            figures |= {f"{key}.{name}": of_class for name, of_class in value.items()}
    return figures


def limits_of(texts: Sequence[str], known: Mapping[str, float | None]) -> dict[str, float]:
    """Least values by key, from `--fail-under KEY=NUMBER`."""
    limits: dict[str, float] = {}
    for text in texts:
        key, _, number = text.rpartition("=")
        if key not in known:
            raise InputError(
                f"fail-under: {text!r} is not KEY=NUMBER with a key of {', '.join(known)}"
            )
        try:
            limits[key] = float(number)
        except ValueError as error:
            raise InputError(f"fail-under: {key}: {number!r} is no number") from error
    return limits


def missed_limits(results: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> list[str]:
    """What is under its limit, and by how much."""
    missed = []
    for result in results:
        figures = figures_of(result)
        for key, least in limits.items():
            value = figures[key]
            if value is None:
                missed.append(f"{result['name']}: {key} has no value here")
            elif value < least:
                missed.append(
                    f"{result['name']}: {key} is {value:.4f}, {least - value:.4f} under {least:g}"
                )
    return missed
