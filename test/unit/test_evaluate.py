"""Evaluation of labellers: what is scored, what is counted, and what goes on after a failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

import numpy as np
import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.evaluate import (
    FrameResult,
    LabelledOutput,
    PipelineLabeller,
    evaluate,
)
from sam2vss_ros.evaluation.latency import Latencies
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, LabelledStream
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass
from sam2vss_ros.types import Frame, SemanticFrame

STREET = ClassCatalog(
    "street",
    (
        SemanticClass(0, "Sky", (120, 160, 220), False),
        SemanticClass(1, "Road", (90, 60, 90), False),
        SemanticClass(2, "Car", (200, 20, 20), True),
    ),
    ignore_id=9,
)
Item = LabelledFrame | BrokenFrame


def drawn(index: int, shift: int = 0) -> np.ndarray:
    """(24, 32) ids: sky above a road, and a car that drives to the right."""
    labels = np.zeros((24, 32), np.uint8)
    labels[10:] = 1
    labels[8:14, 2 + index + shift : 8 + index + shift] = 2
    return labels


def frame(index: int, labels: np.ndarray | None = None) -> Frame:
    """An image whose red channel says the ids."""
    labels = drawn(index) if labels is None else labels
    return Frame(np.dstack([labels, labels * 80, labels * 0]).astype(np.uint8), index * 100)


def labelled(index: int) -> LabelledFrame:
    return LabelledFrame(frame(index), drawn(index), f"f{index}")


def stream(items: Sequence[Item], name: str = "s", unmatched: int = 0) -> LabelledStream:
    return LabelledStream(name, len(items), lambda: iter(items), lambda: unmatched)


class Reader:
    """A labeller that reads the ids from the red channel, so many frames at a time."""

    catalog = STREET

    def __init__(self, window: int = 1, shift: int = 0, fails_at: int | None = None) -> None:
        self.window, self.shift, self.fails_at = window, shift, fails_at

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        coming = iter(frames)
        while window := list(islice(coming, self.window)):
            for frame in window:
                labels = np.roll(frame.image[..., 0], self.shift, axis=1)
                if frame.stamp_ns == self.fails_at:
                    yield LabelledOutput(None, 0.1, failure="out of memory")
                else:
                    yield LabelledOutput(labels, 0.01 * (1 + frame.stamp_ns % 3))


def test_all_is_scored_and_told() -> None:
    told: list[FrameResult] = []
    streams = [stream([labelled(i) for i in range(n)], name) for name, n in (("a", 10), ("b", 12))]
    result = evaluate(Reader(), streams, STREET, told.append).as_json()
    assert (result["streams"], result["frames"], result["frames_scored"]) == (2, 22, 22)
    for key in ("miou", "pixel_accuracy", "fwiou", "mbiou", "mvc8", "strict_vc8"):
        assert result[key] == 1.0, key
    assert result["mvc16"] is None, "no stream has more than 16 frames"
    assert result["flicker"] == 0.0 and result["flow_consistency"] is None
    assert [(t.stream, t.index, t.name) for t in told[9:12]] == [
        ("a", 9, "f9"), ("b", 0, "f0"), ("b", 1, "f1"),
    ]  # fmt: skip
    assert all(t.score is not None and t.score.miou == 1.0 for t in told)
    # 8 of 22 frames take 10 ms, 7 take 20 and 7 take 30.
    assert result["fps"] == pytest.approx(22 / 0.43)
    assert result["latency_ms_p50"] == pytest.approx(20, rel=0.006)
    assert result["latency_ms_p95"] == pytest.approx(30, rel=0.006)


def test_what_is_wrong_counts() -> None:
    """A mistake that stays is steady: mVC does not mind, the strict variant does."""
    result = evaluate(Reader(shift=1), [stream([labelled(0)] * 10)], STREET).as_json()
    car, missed = 36, 6  # pixels of the car, and those of them that the shift leaves
    assert result["per_class_iou"]["Car"] == pytest.approx((car - missed) / (car + missed))
    assert result["strict_vc8"] == pytest.approx(1 - 2 * missed / (24 * 32))
    assert result["mvc8"] == 1.0 and result["flicker"] == 0.0


def test_flow_is_scored_on_demand() -> None:
    larger = [np.kron(drawn(i), np.ones((4, 4), np.uint8)) for i in range(4)]  # for the flow
    items = [LabelledFrame(frame(i, labels), labels, f"f{i}") for i, labels in enumerate(larger)]
    result = evaluate(Reader(), [stream(items)], STREET, flow=True).as_json()
    assert 0.5 < result["flow_consistency"] <= 1.0


@pytest.mark.parametrize("window", [1, 4, 100])
def test_broken_frames_are_counted_and_the_rest_goes_on(window: int) -> None:
    """However far a labeller looks ahead, its answers meet their own frames."""
    items: list[Item] = [labelled(i) for i in range(12)]
    items[0] = BrokenFrame("f0", "f0.jpg is cut short")
    items[3] = BrokenFrame("f3", "the labels are cut short", frame(3))
    items[5] = LabelledFrame(frame(5), None, "f5")
    items[6] = LabelledFrame(frame(6), drawn(6)[:10], "f6")
    items[10:] = [BrokenFrame(f"f{i}", "gone") for i in (10, 11)]
    told: list[FrameResult] = []
    labeller = Reader(window, fails_at=800)
    result = evaluate(labeller, [stream(items, unmatched=2)], STREET, told.append).as_json()
    assert result["frames"] == 12
    assert (result["frames_failed"], result["frames_unmatched"]) == (6, 1)
    assert (result["frames_scored"], result["labels_unmatched"]) == (5, 2)
    assert result["miou"] == 1.0
    assert [t.name for t in told] == [f"f{i}" for i in range(12)]
    assert {t.index: t.failure for t in told if t.failure} == {
        0: "f0.jpg is cut short",
        3: "the labels are cut short",
        6: "labels of another size: 32x10, the image is 32x24",
        8: "out of memory",
        10: "gone",
        11: "gone",
    }


def test_nothing_is_compared_across_a_failure() -> None:
    """Seventeen steady frames have windows of eight; with the ninth missing, none is left."""
    whole: list[Item] = [labelled(0) for _ in range(17)]
    assert evaluate(Reader(), [stream(whole)], STREET).as_json()["mvc8"] == 1.0
    torn = [*whole[:8], BrokenFrame("f8", "gone"), *whole[9:]]
    result = evaluate(Reader(), [stream(torn)], STREET).as_json()
    assert result["mvc8"] is None and result["flicker"] == 0.0


def test_frames_are_read_when_they_are_wanted() -> None:
    """A recording longer than the memory is no problem: what waits is what the labeller wants."""
    read, told = 0, 0
    lead = []

    def items() -> Iterator[LabelledFrame]:
        nonlocal read
        for i in range(20):
            read += 1
            yield labelled(i)

    def watch(_: FrameResult) -> None:
        nonlocal told
        told += 1
        lead.append(read - told)

    evaluate(Reader(window=4), [LabelledStream("s", 0, items)], STREET, watch)
    assert told == 20 and max(lead) == 3


def test_foreign_ids_are_dropped_and_told() -> None:
    labels = drawn(0)
    labels[:5], labels[20:] = 77, 9
    result = evaluate(Reader(), [stream([LabelledFrame(frame(0), labels, "f")])], STREET).as_json()
    assert result["foreign_pixels"] == {77: 5 * 32}
    assert result["miou"] == 1.0 and sum(map(sum, result["confusion_matrix"])) == 15 * 32


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([LabelledFrame(frame(0), np.full((24, 32), 50), "f")], r"only the ids \[50\]"),
        ([LabelledFrame(frame(0), None, "f")], "none of the 1 frames has labels"),
        ([BrokenFrame("f0", "cut short")], "1 failed; the first: s: f0: cut short"),
        ([LabelledFrame(frame(0), drawn(0)[:4], "f0")], "s: f0: labels of another size: 32x4"),
        ([], "none of the 0 frames has labels"),
    ],
)
def test_nothing_to_score(items: list[Item], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(Reader(), [stream(items)], STREET)


def test_catalogs_without_a_common_class() -> None:
    indoor = ClassCatalog("indoor", (SemanticClass(0, "chair", (1, 2, 3), True),))
    with pytest.raises(InputError, match="indoor and street have no class name in common"):
        evaluate(Reader(), [stream([labelled(0)])], indoor)


class Stumbling:
    """A pipeline that fails on one frame and labels the others by what it remembers."""

    catalog = STREET

    def __init__(self) -> None:
        self.remembered = 99

    def reset(self) -> None:
        self.remembered = 0

    def process(self, frame: Frame) -> SemanticFrame:
        self.remembered += 1
        if frame.stamp_ns == 200:
            raise RuntimeError("no memory")
        labels = np.full(frame.image.shape[:2], self.remembered, np.uint8)
        return SemanticFrame(frame.stamp_ns, labels, labels, labels.astype(np.uint16), (), False, 0)


def test_the_pipeline_begins_anew_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """As in the node; and each stream begins without what is left of the last one."""
    labeller = PipelineLabeller(cast(VssPipeline, Stumbling()))
    for _ in range(2):
        answers = list(labeller.label(frame(i) for i in range(5)))
        known = [a.label_image[0, 0] if a.label_image is not None else None for a in answers]
        assert known == [1, 2, None, 1, 2]
        assert answers[2].failure == "RuntimeError: no memory"
    assert caplog.text.count("Traceback") == 1


def test_quantiles_in_constant_memory() -> None:
    rng = np.random.default_rng(0)
    durations = rng.lognormal(-3, 0.8, 20000)
    latencies = Latencies()
    for d in durations:
        latencies.add(float(d))
    for share in (0.01, 0.5, 0.95, 0.999):
        exact = np.quantile(durations, share, method="inverted_cdf")
        assert latencies.quantile(share) == pytest.approx(exact, rel=0.005)
    assert latencies.seconds == pytest.approx(durations.sum())
    assert np.isnan(Latencies().quantile(0.5))
    for outside in (0.0, 1e-9, 1e9):
        latencies.add(outside)
    assert latencies.count == 20003
