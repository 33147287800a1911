"""Scene cuts and jumps in time, told from images and stamps alone."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.stream.scene import Break, Continuity, glance, is_cut
from sam2vss_ros.training.procedural import make_clip, street_video
from sam2vss_ros.types import Frame

Image = npt.NDArray[np.uint8]
MILLISECOND = 1_000_000
SHARED = Path(os.environ.get("SAM2VSS_SHARED", Path(__file__).parents[3] / "shared"))


def street(seed: int, frames: int = 20) -> list[Image]:
    return [image for image, _, _ in street_video(seed, frames, (96, 128))]


def cut(before: Image, now: Image) -> bool:
    return is_cut(glance(before), glance(now))


@pytest.fixture(scope="module")
def clips() -> list[list[Image]]:
    shapes = [list(make_clip(s, 8, (96, 128), kind="abstract").frames) for s in (1, 2, 3)]
    return [*shapes, street(31), street(32)]


def test_no_cut_within_a_clip(clips: list[list[Image]]) -> None:
    for clip in clips:
        for step in (1, 2):
            assert not any(cut(a, b) for a, b in zip(clip, clip[step:], strict=False))


def test_a_cut_from_clip_to_clip(clips: list[list[Image]]) -> None:
    for one, other in itertools.permutations(clips, 2):
        assert cut(one[-1], other[0])


def test_images_of_nothing() -> None:
    scene = street(31, 1)[0]
    black, white = np.zeros_like(scene), np.full_like(scene, 255)
    assert not cut(black, black) and not cut(white, white)
    assert cut(black, scene) and cut(scene, black) and cut(black, white)
    assert not cut(scene[:1, :1], scene[:1, :1]), "a single pixel"


@pytest.mark.parametrize("gain", [0.5, 0.7, 1.3, 1.5])
def test_light_that_changes_is_no_cut(gain: float) -> None:
    for seed in (31, 32, 33):
        before, now = street(seed, 2)
        brighter = np.clip(now * gain, 0, 255).astype(np.uint8)
        shared = np.minimum(glance(before).colours, glance(brighter).colours).sum()
        assert shared < 0.7, "the colours alone would call it a cut"
        assert not cut(before, brighter)


def test_size_and_aspect_do_not_matter() -> None:
    before, now = street(31, 2)
    for size in ((640, 480), (50, 50), (400, 90)):
        assert not cut(before, cv2.resize(now, size, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("name", ["driving", "bedroom", "blocks"])
def test_no_cut_within_real_clips(name: str) -> None:
    path = SHARED / "data" / "videos" / f"{name}.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not there; SAM2VSS_SHARED names the folder that holds data/videos")
    video = cv2.VideoCapture(str(path))
    images = []
    while (image := video.read()[1]) is not None:
        images.append(glance(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
    assert len(images) > 100
    for step in (1, 3, 8):
        assert not any(is_cut(a, b) for a, b in zip(images, images[step:], strict=False))


def breaks(image: Image, stamps_ms: list[int]) -> list[Break]:
    continuity = Continuity()
    return [continuity.compare(Frame(image, t * MILLISECOND)) for t in stamps_ms]


@pytest.mark.parametrize(
    ("stamps_ms", "jumps"),
    [
        ([0, 33, 66, 100], []),
        ([0, 33, 66, 1060], []),  # less than a second
        ([0, 33, 66, 1070, 1103], [3]),
        ([0, 60_000, 120_000], []),  # one image a minute, and nothing is known at first
        ([0, 60_000, 360_000, 720_000], []),  # five usual intervals
        ([0, 60_000, 361_000], [2]),
        ([0, 100, 5000, 10_000, 15_000], [2]),  # slower from now on
        ([0, 5000, 5100, 5200, 10_000], [4]),
    ],
)
def test_jumps_in_time(stamps_ms: list[int], jumps: list[int]) -> None:
    found = breaks(np.zeros((4, 4, 3), np.uint8), stamps_ms)
    assert [i for i, b in enumerate(found) if b.time_jump] == jumps
    assert [i for i, b in enumerate(found) if b.suspicious] == jumps
    assert not any(b.scene_cut or b.resized for b in found)


def test_stamps_of_today_in_nanoseconds() -> None:
    now = 1_900_000_000_000
    found = breaks(np.zeros((4, 4, 3), np.uint8), [now, now + 33, now + 66, now + 2000])
    assert [b.time_jump for b in found] == [False, False, False, True]


def test_a_new_size_is_suspicious_unless_the_scene_is_another(clips: list[list[Image]]) -> None:
    continuity = Continuity()
    image = clips[0][0]
    smaller = np.ascontiguousarray(image[::2, ::2])
    assert continuity.compare(Frame(image, 1)) == Break()
    same = continuity.compare(Frame(smaller, 2))
    assert same == Break(resized=True) and same.suspicious
    other = continuity.compare(Frame(clips[1][0], 3))
    assert other == Break(scene_cut=True, resized=True) and not other.suspicious
