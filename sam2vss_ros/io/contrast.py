"""Eight bits of sixteen: cameras of 12 or 14 bits, and thermal ones, use a part of the range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FULL = 65535

MOST_STRETCHED, UNCHANGED = 1 << 14, 1 << 15
"""Values that span less than the first are stretched to all grey levels, those that span more than
the second are taken as they are; in between it goes over."""

LEAST_SPAN = 255
"""Values are drawn apart by a grey level at most."""

OUTLIERS = 0.5
"""Percent of the pixels, at either end, that may be beyond the range: dead ones, glints."""

KEEP = 0.9
"""Share of the past in a stream's range, so that the picture does not flicker."""

SAMPLES = 256
"""Rows and columns that the range is found from."""


class Contrast:
    """The range of 16-bit values that a stream uses, and how they become grey levels.

    All channels share it, so that colours keep their hue.
    """

    def __init__(self) -> None:
        self._range: npt.NDArray[np.float64] | None = None

    def eight_bits(self, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """The next image of the stream, (H, W[, C]) uint16 of any byte order, as uint8."""
        rows, columns = (max(1, side // SAMPLES) for side in pixels.shape[:2])
        found = np.percentile(pixels[::rows, ::columns], (OUTLIERS, 100 - OUTLIERS))
        past = self._range
        if past is None or found[0] > past[1] or found[1] < past[0]:  # nothing in common
            past = found
        self._range = KEEP * past + (1 - KEEP) * found
        low, high = self._range
        wide = np.clip((high - low - MOST_STRETCHED) / (UNCHANGED - MOST_STRETCHED), 0, 1)
        low, high = (1 - wide) * low, (1 - wide) * high + wide * FULL
        span, middle = high - low, (low + high) / 2
        # An even image is as bright as its value says.
        even = 1 - min(1, span / LEAST_SPAN)
        level = even * middle / 257 + (1 - even) * 127.5
        scale = 255 / max(span, LEAST_SPAN)
        table = np.rint(level + (np.arange(FULL + 1) - middle) * scale)
        return table.clip(0, 255).astype(np.uint8).take(pixels)
