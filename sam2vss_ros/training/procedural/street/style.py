"""What a street is like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Style:
    """How a street looks and what is on it. Lengths in metres, shares 0..1.

    natural: chance that a colour is one usual for its thing. sight: how far the street is made.
    """

    natural: float
    sight: float
    road_half: float
    pavement: float
    setback: float
    drive_left: bool
    built: float  # share of lots with a house
    leafy: float  # share of trees with leaves
    parked: float  # parked cars per 10 m and side
    walkers: float  # pedestrians per 10 m and side
    furniture: float  # poles, signs, bins per 10 m and side
    traffic: float  # moving vehicles and cyclists per 10 m and lane
    cloud: float


def random_style(rng: np.random.Generator, natural: float, sight: float) -> Style:
    u = rng.uniform
    return Style(
        natural=natural,
        sight=sight,
        road_half=u(3.2, 7.0),
        pavement=u(1.2, 4.5),
        setback=u(0.0, 5.0) if rng.random() < 0.4 else 0.0,
        drive_left=rng.random() < 0.5,
        built=u(0.2, 0.9),
        leafy=u(0.0, 1.0),
        parked=u(0.0, 1.0) ** 2,
        walkers=u(0.2, 1.6),
        furniture=u(0.5, 1.6),
        traffic=u(0.1, 0.9),
        cloud=u(0.0, 0.5),
    )
