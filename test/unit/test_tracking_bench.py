"""`sam2vss bench tracking`: on drawn material, and on a few frames of a real sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines import open_pipeline, shared_perception
from sam2vss_ros.bench import tracking, tubes
from sam2vss_ros.bench.clips import Clip
from sam2vss_ros.bench.followers import Copy, Flow, PromptedPipeline
from sam2vss_ros.bench.tracking import LATER, Moment, Score, best_iou, click, follow, open_clips
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.mask_scores import Mask
from sam2vss_ros.io.image_files import Rgb, read_image
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame

HEIGHT, WIDTH = 96, 128
SIDE, STEP = 32, 3
CONFIG = PipelineConfig(device="cpu", image_size=128, discovery="regions")
FAST = ("--device", "cpu", "--image-size", 128)


def bench(*arguments: object) -> int:
    return main(["bench", "tracking", *map(str, arguments)])


def read(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def write(folder: Path, images: Any, truths: Any, kind: str = "masks") -> Path:
    """A sequence, or labelled video, of (H, W, 3) images and (H, W) ids."""
    for name in ("images", kind):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, truth) in enumerate(zip(images, truths, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"a_{i:03d}.jpg", quality=95)
        Image.fromarray(truth.astype(np.uint8)).save(folder / kind / f"a_{i:03d}.png")
    return folder


def noise(seed: int, height: int, width: int) -> Rgb:
    """Texture that optical flow can follow."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def squares(frames: int, tops: tuple[int, ...] = (32,)) -> tuple[list[Rgb], list[np.ndarray]]:
    """Squares of texture, one at each of `tops`, that move to the right by `STEP` pixels a frame;
    their ids are 1, 2..."""
    ground: Rgb = (noise(0, HEIGHT, WIDTH) // 3).astype(np.uint8)
    patches = [noise(9 + i, SIDE, SIDE) for i in range(2)]
    images, truths = [], []
    for t in range(frames):
        image, truth = ground.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        for i, top in enumerate(tops):
            place = slice(top, top + SIDE), slice(8 + STEP * t, 8 + STEP * t + SIDE)
            image[place], truth[place] = patches[i], i + 1
        images.append(image)
        truths.append(truth)
    return images, truths


def only_clip(folder: Path) -> Clip:
    (clip,) = open_clips(folder)
    return clip


class Oracle:
    """Knows the truth."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self._t = clip, 0

    def start(self, image: Rgb, masks: Mask) -> None:
        assert (image == self._clip.image(0)).all() and (masks == self._clip.masks(0)).all()

    def step(self, image: Rgb) -> Mask:
        self._t += 1
        return self._clip.masks(self._t)


# --- scores


def test_perfect_masks_score_1(tmp_path: Path) -> None:
    drawn = make_clip(3, 5, (HEIGHT, WIDTH), "street")
    clip = only_clip(write(tmp_path / "drawn", drawn.frames, drawn.instances).parent)
    assert len(clip.objects) == len(np.setdiff1d(drawn.instances[0], 0)) > 1
    scores = follow(clip, {"oracle": Oracle(clip)})["oracle"]
    assert [(score.j, score.f, score.last) for score in scores] == [(1, 1, 1)] * len(clip.objects)


def test_copy_stays_and_flow_follows(tmp_path: Path) -> None:
    """Five times as large, since flow is no good in tiny images: its grid is 480 of 640 wide."""
    images, truths = squares(LATER + 2)
    large = [cv2.resize(x, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC) for x in images]
    write(tmp_path / "square", large, [truth.repeat(5, 0).repeat(5, 1) for truth in truths])
    found = follow(only_clip(tmp_path), {"copy": Copy(), "flow": Flow()})
    (copy,), (flow,) = found["copy"], found["flow"]
    overlaps = [max(0, SIDE - STEP * t) for t in range(1, LATER + 2)]
    expected = [overlap / (2 * SIDE - overlap) for overlap in overlaps]
    assert copy.j == pytest.approx(np.mean(expected))
    assert (copy.last, copy.j16) == (expected[-1], expected[LATER - 1])
    assert flow.j > 0.8 and flow.f > 0.6 and flow.last > 0.5
    assert copy.f < 0.3


def test_flow_in_narrow_images(tmp_path: Path) -> None:
    images, truths = squares(3)
    write(tmp_path / "narrow", [x[40:60] for x in images], [x[40:60] for x in truths])
    (score,) = follow(only_clip(tmp_path), {"flow": Flow()})["flow"]
    assert score.j > 0.6


def test_score_by_hand() -> None:
    seen = [True, False, False, True, False, True]
    j = (0.9, 1.0, 0.0, 0.6, 1.0, 0.2)
    score = Score.of([Moment(x, x / 2, s) for x, s in zip(j, seen, strict=True)])
    assert score.j == pytest.approx(3.7 / 6) and score.f == pytest.approx(3.7 / 12)
    assert score.j_return == pytest.approx(0.4), "the mean of .6 and .2, after it was away"
    assert (score.j16, score.last) == (None, 0.2)


def test_frame_16_is_16_frames_after_the_first() -> None:
    moments = [Moment(t / 100, 0, True) for t in range(1, 31)]
    assert Score.of(moments).j16 == 0.16
    assert Score.of(moments[:15]).j16 is None
    assert Score.of(moments).j_return is None, "it never left"
    assert Score.of([*moments, Moment(1, 1, False)]).j_return is None, "it left for good"


def test_best_iou_is_that_of_one_track() -> None:
    instances = np.zeros((10, 10), np.uint16)
    instances[:, :4], instances[:, 4:6] = 7, 300
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    assert best_iou(mask, instances) == pytest.approx(40 / 50)
    assert best_iou(mask, np.zeros_like(instances)) == 0
    assert best_iou(np.zeros_like(mask), instances) == 0


def test_a_click_is_in_the_middle() -> None:
    """In the middle of a pixel of the images that the pipeline is given."""
    mask = np.zeros((40, 60), bool)
    mask[10:21, 30:41] = True
    for size, point in (((60, 40), (35.5, 15.5)), ((120, 20), (71.0, 7.75))):
        prompt = click(mask, size)
        assert prompt.points is not None and prompt.points.tolist() == [list(point)]
        assert prompt.point_labels is not None and prompt.point_labels.tolist() == [1]


# --- material


def test_ids_are_objects_and_values_do_not_matter(tmp_path: Path) -> None:
    images, truths = squares(3, (4, 60))
    write(tmp_path / "two", images, truths)
    write(tmp_path / "one", images, [(truth == 2) * 255 for truth in truths])
    one, two = open_clips(tmp_path)
    assert (one.objects, two.objects) == (["one"], ["two/1", "two/2"])
    assert (two.masks(2) == np.stack([truths[2] == 1, truths[2] == 2])).all()
    assert (one.masks(2) == two.masks(2)[1:]).all()
    assert len(open_clips(tmp_path, 2)[0]) == 2


def street(frames: int) -> tuple[list[Rgb], list[np.ndarray]]:
    """Labelled video of road: a car and a sign that move, and a car too small to be followed."""
    images, truths = squares(frames, (4, 60))
    labels = [np.choose(truth, (3, 8, 6)).astype(np.uint8) for truth in truths]
    for label in labels:
        label[0:3, 100:120] = 8
    return images, labels


def test_tubes_of_labelled_video(tmp_path: Path) -> None:
    """24 frames: tubes begin on the first one and on the ninth."""
    images, labels = street(24)
    write(tmp_path, images, labels, "labels")
    first, second = open_clips(tmp_path)
    assert first.objects == ["a_000/SignSymbol1", "a_000/Car1"]
    assert second.objects == ["a_008/SignSymbol1", "a_008/Car1"]
    assert len(first) == len(second) == tubes.FRAMES
    car = labels[8 + 15] == 8
    car[:3] = False
    assert (second.masks(15) == np.stack([labels[8 + 15] == 6, car])).all()


def test_tubes_end_where_it_is_not_clear_who_is_who(tmp_path: Path) -> None:
    """The sign becomes a car on frame 10, and the car doubles in size there."""
    images, labels = street(20)
    for label in labels[10:]:
        label[label == 6] = 9
        label[10:90][label[10:90] == 8] = 8
    write(tmp_path, images, labels, "labels")
    (clip,) = open_clips(tmp_path)
    assert clip.objects == ["a_000/Car1"]
    for label in labels[10:]:
        label[:58] = 8
    write(tmp_path, images, labels, "labels")
    with pytest.raises(InputError, match="nothing in .* can be followed over 16 frames"):
        open_clips(tmp_path)


# --- the pipeline


def test_the_pipeline_begins_on_the_first_frame(tmp_path: Path) -> None:
    """Several objects, each answered for by its own track, at the size of the truth."""
    images, truths = squares(6, (4, 60))
    write(tmp_path / "two", images, truths)
    clip = only_clip(tmp_path)
    for size in (None, (256, 192), (64, 48)):
        follower = PromptedPipeline(shared_perception(CONFIG), CONFIG, size)
        upper, lower = follow(clip, {"pipeline": follower})["pipeline"]
        assert min(upper.j, lower.j) > 0.4, size


def test_the_pipeline_makes_room_and_discovers_nothing(tmp_path: Path) -> None:
    images, truths = squares(2, (4, 60))
    config = PipelineConfig(device="cpu", image_size=128, max_objects=1)
    follower = PromptedPipeline(shared_perception(config), config)
    follower.start(images[0], np.stack([truths[0] == 1, truths[0] == 2]))
    assert follower.step(images[1]).shape == (2, HEIGHT, WIDTH)
    assert follower._pipeline.config.discovery == "off"


def test_discovery_counts_objects_and_tracks(tmp_path: Path) -> None:
    """One object is what the pipeline finds on the first frame, the other a single pixel."""
    frames = make_clip(5, 4, (HEIGHT, WIDTH), "street").frames
    folder = write(tmp_path / "street", frames, np.ones(frames.shape[:3]))
    answer = open_pipeline(CONFIG).process(Frame(read_image(folder / "images" / "a_000.jpg"), 0))
    truth = (answer.instance_image == answer.objects[0].track_id).astype(np.uint8)
    truth[0, 0] = 2
    write(folder, frames, [truth] * len(frames))
    found = tracking.discover(open_pipeline(CONFIG), only_clip(tmp_path))
    assert found.found == [True, False]
    assert found.tracks >= len(answer.objects)


# --- the command


def test_the_command_and_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, truths = squares(LATER + 1, (4, 60))
    write(tmp_path / "data" / "one", images, [truth == 1 for truth in truths])
    write(tmp_path / "data" / "two", images[:4], truths[:4])
    file = tmp_path / "tracking.json"
    arguments = ("--data", tmp_path / "data", "--discover", "--click", "--json", file, *FAST)
    assert not bench(*arguments)
    report, names = read(file), ["one", "two/1", "two/2"]
    for way in (report, *report["baselines"].values()):
        assert list(way["sequences"]) == names
        for score in ("j", "f", "j16", "last"):
            values = [row[score] for row in way["sequences"].values()]
            known = [v for v in values if v is not None]
            assert len(known) == (1 if score == "j16" else 3)
            assert way[f"mean_{score}"] == pytest.approx(np.mean(known))
            assert all(0 <= v <= 1 for v in known)
        assert way["mean_j_return"] is None
    assert list(report["baselines"]) == ["copy", "flow"]
    assert report["baselines"]["flow"]["mean_j"] > 0.8 > report["baselines"]["copy"]["mean_j"]
    rows = report["sequences"]
    assert report["recall"] == pytest.approx(np.mean([row["found"] for row in rows.values()]))
    assert report["tracks"] == rows["one"]["tracks"] + rows["two/1"]["tracks"]
    assert report["click_iou"] == pytest.approx(np.mean([r["click_iou"] for r in rows.values()]))
    printed = capsys.readouterr().out
    assert all(f"| {name} " in printed for name in (*names, "mean", "copy", "flow", "pipeline"))
    assert f"by {report['tracks']} tracks in 2 videos" in printed


def test_the_command_on_labelled_video(tmp_path: Path) -> None:
    write(tmp_path / "val", *street(tubes.FRAMES), "labels")
    file = tmp_path / "tubes.json"
    arguments = ("--data", tmp_path / "val", "--size", "64x48", "--json", file)
    assert not bench(*arguments, *FAST)
    report = read(file)
    assert list(report["sequences"]) == ["a_000/SignSymbol1", "a_000/Car1"]
    assert report["size"] == [64, 48]
    assert report["baselines"]["copy"]["mean_last"] == 0 < report["baselines"]["flow"]["mean_last"]
    assert report.keys().isdisjoint(("recall", "tracks", "click_iou"))


def test_bad_input_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: object) -> str:
        assert bench("--data", *arguments) == 2
        return capsys.readouterr().err

    images, truths = squares(3)
    good = write(tmp_path / "good" / "one", images, truths).parent
    assert "data: gone is not a folder" in said("gone")
    (tmp_path / "empty").mkdir()
    assert "holds no sequences (NAME/images/*.jpg" in said(tmp_path / "empty")
    assert "frames: 1 leaves nothing" in said(good, "--frames", 1)
    assert "frames: -3 leaves nothing" in said(good, "--frames", -3)
    assert "rate: 0.0 is not a positive number" in said(good, "--rate", 0)
    for size in ("0x3", "12", "ax3"):
        assert f"size: '{size}' is not a width and a height" in said(good, "--size", size)
    assert "json: the folder of" in said(good, "--json", "no/where.json")
    assert "mode: network follows no objects" in said(good, "--mode", "network", *FAST)
    assert "nothing is looked for" in said(good, "--discover", "--discovery", "off", *FAST)

    write(tmp_path / "short" / "one", images[:1], truths[:1])
    assert "data: one has one frame" in said(tmp_path / "short")
    write(tmp_path / "blank" / "one", images, [0 * truth for truth in truths])
    assert "a_000.png is empty; what is followed must be on" in said(tmp_path / "blank")
    other = write(tmp_path / "other" / "one", images, [x[:, :100] for x in truths]).parent
    assert "a_000.png is 100x96, but" in said(other)
    narrow = write(
        tmp_path / "narrow", [x[:24] for x in images], [x[:24] for x in truths], "labels"
    )
    assert "data: images of 128x24; optical flow needs 32x32" in said(narrow)
    (good / "one" / "masks" / "a_001.png").unlink()
    assert "a_001.jpg has no file of its name in" in said(good)
    write(tmp_path / "bare" / "one", images, truths, "truth")
    assert "masks is not a folder" in said(tmp_path / "bare")
    broken = write(tmp_path / "broken" / "one", images, truths)
    whole = (broken / "images" / "a_002.jpg").read_bytes()
    (broken / "images" / "a_002.jpg").write_bytes(whole[:200])
    assert "a_002.jpg cannot be read as an image" in said(broken.parent, *FAST)


def test_a_real_sequence(shared: Path, tmp_path: Path) -> None:
    """The first frames of a car that turns a corner: what every way to follow should manage."""
    (tmp_path / "davis").mkdir()
    (tmp_path / "davis" / "car-shadow").symlink_to(shared / "data" / "davis" / "car-shadow")
    file = tmp_path / "davis.json"
    assert not bench("--data", tmp_path / "davis", "--frames", 5, "--json", file, "--device", "cpu")
    report = read(file)
    assert report["sequences"]["car-shadow"]["j"] > 0.7
    copy, flow = (report["baselines"][way]["mean_j"] for way in ("copy", "flow"))
    assert 0.5 < copy < flow < 1
