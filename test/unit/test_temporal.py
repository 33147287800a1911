"""Steadiness over time, against VSPW's rule written out window by window, and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from sam2vss_ros.evaluation.temporal import FlowConsistency, VideoConsistency

VOID = 9


def feed(consistency: VideoConsistency, truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    consistency.start_clip()
    scored = truth != VOID
    right = scored & (truth == prediction)
    return [consistency.update(*f) for f in zip(truth, prediction, scored, right, strict=True)]


def by_windows(clips: Sequence[tuple[np.ndarray, np.ndarray]], length: int) -> list[float]:
    """VC, VC without void and strict VC, from all frames at once."""
    values: list[list[float]] = [[], [], []]
    for truth, prediction in clips:
        for start in range(len(truth) - length):
            t, p = truth[start : start + length], prediction[start : start + length]
            constant, steady = (t == t[0]).all(0), (p == p[0]).all(0)
            scored = constant & (t[0] != VOID)
            pairs = (
                (constant & steady, constant),
                (scored & steady, scored),
                (scored & steady & (p[0] == t[0]), scored),
            )
            for of_rule, (part, whole) in zip(values, pairs, strict=True):
                if whole.any():
                    of_rule.append(part.sum() / whole.sum())
    return [float(np.mean(v)) if v else float("nan") for v in values]


@pytest.mark.parametrize("lengths", [(20,), (3, 9, 12, 8, 4, 300)])
def test_run_lengths_give_what_windows_give(lengths: tuple[int, ...]) -> None:
    """Clips of many lengths, some too short, whose pixels change now and then."""
    random = np.random.default_rng(len(lengths))

    def noisy(frames: int, kept: float) -> np.ndarray:
        stack = random.choice([1, 2, 3, VOID], (frames, 7, 9)).astype(np.uint8)
        for i in range(1, frames):
            stay = random.random((7, 9)) < kept
            stack[i][stay] = stack[i - 1][stay]
        return stack

    clips = []
    for frames in lengths:
        truth, prediction = noisy(frames, 0.97), noisy(frames, 0.95)
        right = random.random((7, 9)) < 0.5
        prediction[:, right] = truth[:, right]
        clips.append((truth, prediction))
    consistency = VideoConsistency((2, 8, 16))
    for clip in clips:
        feed(consistency, *clip)
    for length in (2, 8, 16):
        assert list(consistency.mvc(length)) == pytest.approx(by_windows(clips, length))


def test_a_window_by_hand() -> None:
    """Four frames of five pixels: windows of 2 begin at 0 and 1, the one at 2 is left out."""
    truth = np.array([[1, 1, 1, VOID, 1], [1, 1, 1, VOID, 2], [1, 1, 1, VOID, 2], [3] * 5])
    found = np.array([[1, 2, 1, 1, 1], [1, 2, 2, 1, 1], [1, 2, 2, 1, 2], [9] * 5])
    consistency = VideoConsistency((2,))
    flicker = feed(consistency, truth[:, None], found[:, None])
    vc, void_out, strict = consistency.mvc(2)
    assert vc == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert void_out == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert strict == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert np.isnan(flicker[0]) and np.isnan(flicker[3])
    assert flicker[1:3] == pytest.approx([1 / 3, 1 / 4])
    assert consistency.flicker() == pytest.approx(2 / 7)


def test_a_clip_as_long_as_the_window_has_none() -> None:
    still = np.ones((8, 2, 2), np.uint8)
    consistency = VideoConsistency((8,))
    feed(consistency, still, still)
    assert np.isnan(consistency.mvc(8)).all() and consistency.flicker() == 0
    feed(consistency, np.ones((9, 2, 2)), np.ones((9, 2, 2)))
    assert list(consistency.mvc(8)) == [1, 1, 1]


def test_another_size_begins_a_new_clip() -> None:
    small, large = np.ones((5, 2, 2), np.uint8), np.ones((5, 3, 2), np.uint8)
    together, apart = VideoConsistency((2,)), VideoConsistency((2,))
    together.start_clip()
    for stack in (small, large):
        for frame in stack:
            together.update(frame, frame, frame > 0, frame > 0)
        feed(apart, stack, stack)
    assert together.mvc(2) == apart.mvc(2)
    assert together.flicker() == apart.flicker() == 0


def test_frames_may_be_overwritten_by_the_caller() -> None:
    buffer = np.ones((2, 2), np.uint8)
    yes = np.ones((2, 2), bool)
    consistency = VideoConsistency((2,))
    consistency.update(buffer, buffer, yes, yes)
    buffer[:] = 2
    consistency.update(buffer, buffer, yes, yes)
    consistency.update(buffer, buffer, yes, yes)
    assert np.isnan(consistency.mvc(2).vc)  # nothing was constant over the first window


NONE = 2


@pytest.fixture(scope="module")
def drive() -> tuple[np.ndarray, np.ndarray]:
    """A textured scene that moves 3 px to the left in each of 6 frames, and its two classes."""
    random = np.random.default_rng(1)
    noise = cv2.GaussianBlur(random.random((120, 200)).astype(np.float32), (0, 0), 3)
    texture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    classes = np.zeros((120, 200), np.uint8)
    classes[:, 60:75] = classes[:, 110:125] = 1
    images = [np.dstack([texture[:, 3 * i : 3 * i + 160]] * 3) for i in range(6)]
    labels = [np.ascontiguousarray(classes[:, 3 * i : 3 * i + 160]) for i in range(6)]
    return np.stack(images), np.stack(labels)


def follow(images: np.ndarray, predictions: np.ndarray) -> float:
    flow = FlowConsistency(2)
    first, *others = (flow.update(i, p) for i, p in zip(images, predictions, strict=True))
    assert np.isnan(first) and not np.isnan(others).any()
    return flow.miou()


def test_labels_that_move_with_the_scene_are_consistent(
    drive: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = drive
    assert follow(images, labels) > 0.99


def test_labels_that_stand_still_are_not(drive: tuple[np.ndarray, np.ndarray]) -> None:
    """Two stripes of 15 px are off by 3: IoU 12/18; of the other 127 columns in sight 121 stay."""
    images, labels = drive
    still = np.broadcast_to(labels[0], labels.shape)
    assert follow(images, still) == pytest.approx((12 / 18 + 121 / 133) / 2, abs=0.02)


def test_pixels_that_cannot_be_followed_are_dropped(drive: tuple[np.ndarray, np.ndarray]) -> None:
    """A bright wall appears in front of the second frame: only what stays in sight is compared."""
    images, labels = drive
    images, labels = images[:2].copy(), labels[:2].copy()
    images[1][:60], labels[1][:60] = 255, 1
    flow = FlowConsistency(2)
    for image, prediction in zip(images, labels, strict=True):
        flow.update(image, prediction)
    assert flow.miou() > 0.95
    assert flow.counts.sum() < 0.7 * labels[0].size


def test_unlabelled_pixels_are_dropped_or_missed(drive: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = drive
    flow = FlowConsistency(2)
    flow.update(images[0], np.full_like(labels[0], NONE))
    flow.update(images[1], labels[1])
    assert flow.counts.sum() == 0
    flow.update(images[2], np.full_like(labels[0], NONE))
    assert flow.counts[:, NONE].sum() == flow.counts.sum() > 0
    assert flow.miou() == 0


def test_flow_wants_an_image_of_the_same_size(drive: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = drive
    with pytest.raises(ValueError, match=r"image is \(120, 160\), the prediction \(60, 160\)"):
        FlowConsistency(2).update(images[0], labels[0][:60])


@pytest.mark.parametrize("size", [(5, 7), (12, 300), (300, 12), (31, 40), (32, 32), (32, 600)])
def test_images_too_small_for_flow(size: tuple[int, int]) -> None:
    flow = FlowConsistency(2)
    image, prediction = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    flow.update(image, prediction)
    value = flow.update(image, prediction)
    assert np.isnan(value) == (min(size) < 32)
