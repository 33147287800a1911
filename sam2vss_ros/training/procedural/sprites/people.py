"""People on foot and on bicycles."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.training.procedural.sprites.pen import Design, Pen
from sam2vss_ros.training.procedural.sprites.tints import ANY, CLOTH, HAIR, METAL, SKIN

_WALK_PHASES = 6

# Parts of a person: 0 skin, 1 top, 2 trousers, 3 hair, 4 shoes, 5 bag.
PERSON_TINTS = [SKIN, CLOTH, CLOTH, HAIR, METAL, CLOTH]


def person(rng: np.random.Generator, side: bool) -> tuple[Design, ...]:
    """A walker going to the right, or seen from behind; the canvas is twice as high as wide."""
    u = rng.uniform
    shoulder = u(0.10, 0.15) if side else u(0.17, 0.24)  # half width, share of the canvas width
    leg, arm, head = u(0.045, 0.065), u(0.035, 0.05), u(0.055, 0.07)
    hip, skirt, coat = u(0.48, 0.54), rng.random() < 0.2, u(0.5, 0.7) if rng.random() < 0.35 else 0
    stride = u(0.14, 0.26) if side else u(0.03, 0.08)
    hair, bag = u(0.0, 0.05), rng.random() < 0.35
    bag_x, bag_y = 0.5 + rng.choice([-1, 1]) * (shoulder + u(0.03, 0.09)), u(0.3, 0.6)
    still = rng.random() < 0.25
    phases = []
    for i in range(1 if still else _WALK_PHASES):
        swing = 0.3 if still else np.sin(2 * np.pi * i / _WALK_PHASES)
        pen = Pen(144, 72)
        for s in (-1, 1):
            foot = 0.5 + s * (stride * swing + (0 if side else shoulder * 0.45))
            hip_x = 0.5 if side else 0.5 + s * shoulder * 0.45
            lift = 0.03 * max(0.0, float(s * swing))
            knee = (hip_x + foot) / 2 + (0.04 if side else 0)
            pen.line(2, leg, hip_x, hip, knee, 0.74, foot, 0.96 - lift)
            pen.line(4, leg * 0.9, foot, 0.965 - lift, foot + 0.05 * side, 0.97 - lift)
            hand = 0.5 + s * ((-stride if side else 0) * swing + (0 if side else shoulder + 0.06))
            elbow = 0.5 + s * (shoulder * (0.2 if side else 1.1)) - s * 0.05 * swing
            pen.line(
                1, arm, 0.5 + s * shoulder * (0.1 if side else 0.9), 0.2, elbow, 0.36, hand, 0.5
            )
            pen.ellipse(0, hand, 0.51, arm * 0.5, arm * 0.5)
        w = shoulder
        pen.polygon(1, 0.5 - w, 0.19, 0.5 + w, 0.19, 0.5 + w * 0.9, hip, 0.5 - w * 0.9, hip)
        if skirt or coat:
            low = coat or 0.68
            pen.polygon(
                1 if coat else 2, 0.5 - w, hip - 0.08, 0.5 + w, hip - 0.08, 0.5 + w * 1.2, low,
                0.5 - w * 1.2, low,
            )  # fmt: skip
        if bag:
            pen.ellipse(5, bag_x, bag_y, 0.05, 0.07)
        pen.line(0, 0.05, 0.5, 0.13, 0.5, 0.19)
        pen.ellipse(0, 0.5, 0.09, head * 0.85, head)
        pen.ellipse(3, 0.5 - 0.03 * side, 0.07 + hair / 2, head * 0.9, head * 0.7 + hair)
        if side or rng.random() < 0.1:
            pen.ellipse(0, 0.55, 0.1, head * 0.5, head * 0.7)
        phases.append(pen.design())
    return tuple(phases)


# Parts of a cyclist: 0 to 5 as of a person, 6 frame, 7 tyres.
CYCLIST_TINTS = [*PERSON_TINTS, ANY, METAL]


def cyclist(rng: np.random.Generator, side: bool) -> tuple[Design, ...]:
    """A cyclist going to the right (canvas 144 x 144), or from behind (144 x 72)."""
    u = rng.uniform
    lean, helmet, leg = u(0.05, 0.2), rng.random() < 0.5, u(0.05, 0.065)
    width = u(0.15, 0.22)
    phases = []
    for i in range(_WALK_PHASES):
        a = 2 * np.pi * i / _WALK_PHASES
        pen = Pen(144, 144 if side else 72)
        if side:
            for x in (0.2, 0.8):
                pen.ellipse(7, x, 0.79, 0.185, 0.185, outline=0.022)
            pen.line(6, 0.02, 0.2, 0.79, 0.42, 0.52, 0.7, 0.52, 0.48, 0.79, 0.2, 0.79)
            pen.line(6, 0.02, 0.42, 0.5, 0.48, 0.79)
            pen.line(6, 0.02, 0.8, 0.79, 0.69, 0.45, 0.74, 0.44)
            for s in (0, np.pi):
                px, py = 0.48 + 0.07 * np.cos(a + s), 0.79 + 0.07 * np.sin(a + s)
                pen.line(2, leg, 0.4, 0.46, px + 0.12, (0.46 + py) / 2 - 0.02, px, py)
                pen.ellipse(4, px + 0.02, py, 0.03, 0.018)
            top = 0.45 + lean
            pen.line(1, 0.12, 0.4, 0.44, top, 0.2)
            pen.line(1, 0.045, top, 0.2, (top + 0.72) / 2, 0.38, 0.72, 0.43)
            pen.ellipse(0, top + 0.05, 0.09, 0.055, 0.065)
            pen.ellipse(5 if helmet else 3, top + 0.03, 0.06, 0.06, 0.045)
        else:
            pen.line(7, 0.035, 0.5, 0.62, 0.5, 0.97)
            pen.line(6, 0.02, 0.5 - width * 1.3, 0.42, 0.5 + width * 1.3, 0.42)
            for s in (-1, 1):
                lift = 0.06 * np.sin(a) * s
                pen.line(
                    2,
                    leg,
                    0.5 + s * 0.1,
                    0.5,
                    0.5 + s * 0.17,
                    0.65 - lift,
                    0.5 + s * 0.13,
                    0.82 - lift,
                )
                pen.ellipse(4, 0.5 + s * 0.13, 0.84 - lift, 0.022, 0.03)
                pen.line(1, 0.045, 0.5 + s * width, 0.22, 0.5 + s * width * 1.35, 0.42)
            w = width
            pen.polygon(1, 0.5 - w, 0.18, 0.5 + w, 0.18, 0.5 + w * 0.75, 0.54, 0.5 - w * 0.75, 0.54)
            pen.ellipse(0, 0.5, 0.1, 0.05, 0.06)
            pen.ellipse(5 if helmet else 3, 0.5, 0.075, 0.055, 0.055)
        phases.append(pen.design(close=0.08 if side else 0.0))
    return tuple(phases)
