"""The figures of an evaluation as people read them: names, units, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Figure(NamedTuple):
    """How a figure of the JSON is shown; `percent` of 0..1, and which way is better."""

    key: str
    name: str
    meaning: str
    percent: bool = True
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.name} %" if self.percent else self.name

    def text(self, value: float | None) -> str:
        """The figure in its unit."""
        return "–" if value is None else f"{self._scaled(value):.1f}"

    def delta(self, value: float, base: float) -> str:
        """How much more than the baseline's, in its unit and with a sign."""
        return f"{self._scaled_delta(value, base):+.1f}".replace("-", "−")

    def verdict(self, value: float, base: float) -> str:
        """`better` or `worse` than the baseline's, or the `same` as far as `delta` tells."""
        delta = self._scaled_delta(value, base)
        if not delta:
            return "same"
        return "better" if (delta > 0) == self.higher_is_better else "worse"

    def best(self, values: Iterable[float | None]) -> float | None:
        """The best of those known."""
        known = [v for v in values if v is not None]
        return (max if self.higher_is_better else min)(known, default=None)

    def _scaled(self, value: float) -> float:
        return 100 * value if self.percent else value

    def _scaled_delta(self, value: float, base: float) -> float:
        return round(self._scaled(value - base), 1) + 0.0  # no negative zero


FIGURES = (
    Figure("miou", "mIoU", "mean over classes of intersection over union"),
    Figure("mbiou", "mBIoU", "the same, only near boundaries"),
    Figure("trimap_miou", "trimap mIoU", "mIoU within 5 px of the true boundaries"),
    Figure("strict_vc8", "strict VC8", "pixels right in all of 8 frames"),
    Figure("strict_vc16", "strict VC16", "pixels right in all of 16 frames"),
    Figure("mvc8", "mVC8", "pixels that keep one label, right or wrong, over 8 frames"),
    Figure("mvc16", "mVC16", "the same over 16 frames"),
    Figure("flicker", "flicker", "pixels that change without cause", higher_is_better=False),
    Figure("flow_consistency", "flow", "consistency along optical flow, mIoU"),
    Figure("fwiou", "fwIoU", "IoU weighted by the classes' pixels"),
    Figure("pixel_accuracy", "pixel acc.", "pixels with their true class"),
    Figure("mean_accuracy", "mean acc.", "mean over classes of pixels found"),
    Figure("fps", "frames/s", "of the labeller's own time", percent=False),
    Figure("latency_ms_p50", "p50 ms", "median time of a frame", False, False),
    Figure("latency_ms_p95", "p95 ms", "time that 95 % of the frames keep", False, False),
)
IOU = FIGURES[0]

COUNTS = {
    "streams": "streams",
    "frames": "frames in",
    "frames_scored": "scored",
    "frames_unmatched": "without labels",
    "frames_failed": "failed",
    "labels_unmatched": "labels without a frame",
}

PLOTS = {"miou": "mIoU of each frame, %", "flicker": "flicker, % of the pixels"}
"""What is drawn over time: a figure of `FrameScore`, and its title."""
