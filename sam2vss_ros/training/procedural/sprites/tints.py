"""What colours are natural for what."""

from __future__ import annotations

from dataclasses import dataclass

from sam2vss_ros.training.procedural.paint import Range


@dataclass(frozen=True)
class Tint:
    """Ranges of hue, saturation and value that look natural for a part."""

    hue: Range = (0.0, 1.0)
    saturation: Range = (0.0, 1.0)
    value: Range = (0.1, 0.9)


CLOTH = Tint(saturation=(0.0, 0.6), value=(0.04, 0.45))
SKIN = Tint((0.02, 0.09), (0.2, 0.55), (0.35, 0.9))
HAIR = Tint((0.02, 0.12), (0.1, 0.6), (0.05, 0.5))
METAL = Tint(saturation=(0.0, 0.2), value=(0.1, 0.55))
LEAF = Tint((0.12, 0.36), (0.15, 0.7), (0.15, 0.55))
BARK = Tint((0.02, 0.12), (0.05, 0.45), (0.1, 0.45))
BRIGHT = Tint(saturation=(0.2, 1.0), value=(0.25, 0.9))
ANY = Tint()
