"""Images and labels joined from folders as people have them, to the labels of every frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from label_scenes import HEIGHT, WIDTH, save_turned, scene_image, scene_labels
from PIL import Image

from sam2vss_ros.cli import main
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_files import ImageHeader
from sam2vss_ros.io.label_files import LabelRules, fitting_turn
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, labelled_folder
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.training.data import load_stills

CAMVID = load_catalog("camvid")


def write(
    root: Path,
    image: str = "a_{}.png",
    labels: str = "a_{}.png",
    orientation: int = 1,
    draw: Callable[[np.ndarray], np.ndarray] = lambda ids: ids,
    frames: int = 3,
) -> tuple[Path, Path]:
    for i in range(frames):
        for name in (f"images/{image}", f"labels/{labels}"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_turned(root / "images" / image.format(i), scene_image(i), orientation)
        Image.fromarray(draw(scene_labels(i))).save(root / "labels" / labels.format(i))
    return root / "images", root / "labels"


def check(images: Path, labels: Path, **rules: Any) -> None:
    """Every frame has its labels, for evaluation and for training."""
    of_user = LabelRules(CAMVID, **rules)
    streams = labelled_folder(images, labels, rules=of_user)
    frames = [frame for stream in streams for frame in stream.read()]
    for i, frame in enumerate(frames):
        assert isinstance(frame, LabelledFrame) and frame.labels is not None
        np.testing.assert_array_equal(frame.labels, scene_labels(i))
        assert np.abs(frame.frame.image.astype(int) - scene_image(i)).max() <= 6
    assert len(frames) == 3 and [note for stream in streams for note in stream.notes()] == []
    for i, still in enumerate(load_stills(images.parent, CAMVID, of_user)):
        void = still.labels == 255
        np.testing.assert_array_equal(np.where(void, 11, still.labels), scene_labels(i))
        np.testing.assert_array_equal(still.image, frames[i].frame.image)  # type: ignore[union-attr]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_fit_a_portrait_as_it_is_shown_or_stored(orientation: int, tmp_path: Path) -> None:
    check(*write(tmp_path / "shown", "a_{}.jpg", orientation=orientation))
    stored = write(tmp_path / "stored", "a_{}.jpg", orientation=orientation)
    for path in stored[1].iterdir():
        save_turned(path, np.asarray(Image.open(path)), orientation)
        Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).save(path)  # without the mark
    check(*stored)
    check(*stored, orientation="stored")
    with pytest.raises(InputError, match=r"is 32x48, its image .* is 48x32 \(stored: 32x48, EXIF"):
        check(*stored, orientation="shown")


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_labels_that_fit_both_ways_are_asked_for(orientation: int, tmp_path: Path) -> None:
    images, labels = write(tmp_path, "a_{}.jpg", orientation=orientation)
    message = f"a_0.jpg has the EXIF orientation {orientation}, and its labels .*fit both ways"
    with pytest.raises(InputError, match=message + ".*--label-orientation"):
        labelled_folder(images, labels)
    with pytest.raises(InputError, match=message):
        load_stills(tmp_path, CAMVID)
    check(images, labels, orientation="shown")
    for path in labels.iterdir():
        save_turned(path, np.asarray(Image.open(path)), orientation)
        Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).save(path)
    check(images, labels, orientation="stored")


def test_the_turn_that_fits() -> None:
    portrait, square = ImageHeader((2, 3), 6), ImageHeader((3, 3), 6)
    assert fitting_turn((2, 3), portrait, "auto", "l", "i") == 1
    assert fitting_turn((3, 2), portrait, "auto", "l", "i") == 6
    assert fitting_turn((2, 3), ImageHeader((2, 3), 1), "stored", "l", "i") == 1
    assert fitting_turn((3, 3), square, "stored", "l", "i") == 6
    with pytest.raises(InputError, match="fit both ways"):
        fitting_turn((3, 3), square, "auto", "l", "i")
    with pytest.raises(InputError, match=r"l is 4x4, its image i is 2x3 \(stored: 3x2, EXIF"):
        fitting_turn((4, 4), portrait, "auto", "l", "i")


@pytest.mark.parametrize(
    ("image", "labels", "rules"),
    [
        ("x_{}_000019_leftImg8bit.png", "x_{}_000019_gtFine_labelTrainIds.png", {}),
        ("city/x_{}.png", "city/x_{}.png", {}),
        ("c/x_{}_rgb_anon.JPG", "c/x_{}_gt_labelTrainIds.png", {}),
        ("{}.bmp", "{}_L.tif", {}),
        ("a {} ü.webp", "a {} ü.png", {"image_suffix": ".webp", "label_suffix": ".png"}),
        ("x_{}_left.png", "x_{}_ids.png", {"image_suffix": "_left", "label_suffix": "_ids"}),
    ],
)
def test_layouts_of_names(image: str, labels: str, rules: dict[str, str], tmp_path: Path) -> None:
    folders = write(tmp_path, image, labels)
    check(images=folders[0], labels=folders[1], **rules)


def test_several_kinds_of_labels_in_one_folder_are_named(tmp_path: Path) -> None:
    images, labels = write(tmp_path, "x_{}_leftImg8bit.png", "x_{}_gtFine_labelTrainIds.png")
    for i in range(3):
        Image.fromarray(scene_labels(i) + 7).save(labels / f"x_{i}_gtFine_labelIds.png")
    message = (
        r"labels has x_0_gtFine_labelIds.png \(ends: _gtFine_labelIds, _gtFine_labelTrainIds\)"
    )
    with pytest.raises(InputError, match=message):
        labelled_folder(images, labels)
    check(images, labels, image_suffix="_leftImg8bit", label_suffix="_gtFine_labelTrainIds")


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    images, labels = write(tmp_path, "x_{}.jpg", "x_{}.png")
    for path in [*labels.iterdir()]:
        path.rename(images / path.name)
    labels.rmdir()
    labels.symlink_to(images)
    check(images, labels, image_suffix=".jpg", label_suffix=".png")
    with pytest.raises(InputError, match="have one name but for the suffix"):
        labelled_folder(images, images)
    with pytest.raises(InputError, match="would be an image and its own labels"):
        labelled_folder(images, images, rules=LabelRules(CAMVID, ".png", ".png"))


def test_recordings_in_sub_folders_are_streams(tmp_path: Path) -> None:
    for folder in ("rec10", "rec9"):
        write(tmp_path, folder + "/{}.png", folder + "/{}.png")
    streams = labelled_folder(tmp_path / "images", tmp_path / "labels", rate=10)
    assert [(s.name, s.count) for s in streams] == [("rec9", 3), ("rec10", 3)]
    frames = [frame for stream in streams for frame in stream.read()]
    assert [f.name for f in frames] == ["0", "1", "2"] * 2
    assert [f.frame.stamp_ns for f in frames if f.frame] == [i * 100_000_000 for i in range(6)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda ids: CAMVID.palette()[ids],
        lambda ids: np.dstack([ids] * 3),
        lambda ids: np.dstack([ids, np.full_like(ids, 255)]),
        lambda ids: np.dstack([ids] * 3 + [np.full_like(ids, 255)]),
        lambda ids: ids.astype(np.uint16),
    ],
    ids=["colours", "RGB", "LA", "RGBA", "16 bits"],
)
def test_kinds_of_label_images(draw: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    check(*write(tmp_path, draw=draw))


def test_labels_of_no_use_are_refused_before_any_work(tmp_path: Path) -> None:
    images, labels = write(tmp_path / "jpeg", labels="a_{}.jpg")
    with pytest.raises(InputError, match=r"a_0.jpg is compressed with loss \(JPEG\)"):
        labelled_folder(images, labels)
    images, labels = write(tmp_path / "photos", draw=lambda ids: np.dstack([ids * 20, ids, ids]))
    with pytest.raises(InputError, match=r"a_0.png has \d+ pixels in \d colours that no class of"):
        labelled_folder(images, labels, rules=LabelRules(CAMVID))


def test_one_damaged_label_image_is_one_failed_frame(tmp_path: Path) -> None:
    images, labels = write(tmp_path, draw=lambda ids: CAMVID.palette()[ids])
    (labels / "a_0.png").write_bytes(b"")
    Image.fromarray(scene_image()).save(labels / "a_2.png")
    (stream,) = labelled_folder(images, labels, rules=LabelRules(CAMVID))
    first, second, third = stream.read()
    assert isinstance(first, BrokenFrame) and "it is empty" in first.reason
    assert isinstance(second, LabelledFrame)
    assert isinstance(third, BrokenFrame) and "colours that no class of camvid" in third.reason


def test_metrics_take_the_same_files(tmp_path: Path) -> None:
    """Stored labels in colours, of another layout, beside what a viewer shows."""
    images, labels = write(
        tmp_path, "x_{}_left.jpg", "x_{}_gt.png", 6, lambda ids: CAMVID.palette()[np.rot90(ids)]
    )
    _, predictions = write(tmp_path / "mine", labels="x_{}.png")
    json_file = tmp_path / "out.json"
    arguments = ["metrics", "--labels", labels, "--predictions", predictions, "--images", images,
                 "--classes", "camvid", "--json", json_file]  # fmt: skip
    assert main([str(a) for a in arguments]) == 0
    report = json.loads(json_file.read_text())
    assert (report["miou"], report["frames_scored"], report["label_notes"]) == (1.0, 3, [])


def test_doubtful_labels_are_told_with_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def resized(ids: np.ndarray) -> np.ndarray:
        return cv2.resize(ids, (WIDTH * 3, HEIGHT * 3), interpolation=cv2.INTER_LINEAR)

    _, labels = write(tmp_path, draw=resized)
    arguments = ["metrics", "--labels", labels, "--predictions", labels, "--classes", "camvid"]
    assert main([str(a) for a in arguments]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("sam2vss: doubtful: ") and "a_0.png seems to have been resized" in last
