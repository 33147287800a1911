"""Frames and labels from real files, whole and broken."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from videos import write_video

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_files import image_size, read_image
from sam2vss_ros.io.image_folders import files_by_number, list_images
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.io.readers import (
    BrokenFrame,
    LabelledFrame,
    labelled_folder,
    labelled_video,
    open_frames,
)


def test_video(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "red.mp4"))
    assert (source.rate, source.count) == (25.0, 5)
    frames = list(source)
    assert [f.stamp_ns for f in frames] == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000]
    for i, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        red, green, blue = frame.image.reshape(-1, 3).mean(axis=0)
        assert abs(red - (50 + 40 * i)) < 8 and max(green, blue) < 12
    assert len(list(source)) == 5, "a source can be read again"


def test_rate_can_be_replaced(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "red.mp4"), rate=10)
    assert [f.stamp_ns for f in source][:2] == [0, 100_000_000]
    with pytest.raises(InputError, match="rate: -1"):
        open_frames(tmp_path / "red.mp4", rate=-1)


def test_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for name, gray in (("b.png", 20), ("a.PNG", 10), ("c.bmp", 30)):
        Image.fromarray(np.full((4, 6, 3), (gray, 0, 0), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_frames(tmp_path)
    assert (source.rate, source.count) == (30.0, 3)
    assert [int(f.image[0, 0, 0]) for f in source] == [10, 20, 30]
    assert image_size(tmp_path / "a.PNG") == (6, 4)


def test_twins_in_a_folder_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / name)
    assert open_frames(tmp_path).count == 3
    assert "a.jpg and" in caplog.text and "have one name but for the suffix" in caplog.text


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 77, np.uint8)).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert image.shape == (4, 6, 3) and (image == 77).all()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4 does not exist"):
        open_frames(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="holds no images"):
        open_frames(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        list_images(tmp_path / "none")


def test_larger_frames_than_allowed_are_refused(tmp_path: Path) -> None:
    """A folder when it comes to the image, a video at once."""
    video = write_video(tmp_path / "a.mp4", frames=2)
    (tmp_path / "images").mkdir()
    capture = cv2.VideoCapture(str(video))
    image = capture.read()[1]
    height, width = image.shape[:2]
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    said = f"the image is {width} x {height}, max_image_pixels allows {width * height - 1} pixels"
    with pytest.raises(InputError, match=f"a.mp4: {said}"):
        open_frames(video, most=width * height - 1)
    with pytest.raises(InputError, match=f"a.png cannot be read as an image: {said}"):
        list(open_frames(tmp_path / "images", most=width * height - 1))
    for source in (video, tmp_path / "images"):
        assert next(iter(open_frames(source, most=width * height))).image.shape == image.shape


def test_broken_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(InputError, match=r"text\.mp4 cannot be opened as a video"):
        open_frames(tmp_path / "text.mp4")


def test_truncated_video_gives_what_it_has_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An AVI keeps its frame count in front, so that a cut file still opens."""
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    noise = np.random.default_rng(0)
    for _ in range(20):
        writer.write(noise.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        count = len(list(open_frames(cut)))
    assert 5 < count < 20
    assert f"ends after {count} of the 20 frames" in caplog.text


def test_broken_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    with pytest.raises(InputError, match=r"b\.jpg cannot be read"):
        list(open_frames(tmp_path))
    with pytest.raises(InputError, match=r"b\.jpg cannot be read"):
        image_size(tmp_path / "b.jpg")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_of_8_and_16_bits(tmp_path: Path, dtype: type) -> None:
    ids: np.ndarray = np.array([[0, 3], [200, np.iinfo(dtype).max]], dtype)
    cv2.imwrite(str(tmp_path / "labels.png"), ids)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), ids)


def test_palette_labels_are_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "palette.png")
    assert read_labels(tmp_path / "palette.png").tolist() == [[0, 1, 2]]


def test_labels_that_are_none(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6, 3), (1, 2, 3), np.uint8)).save(tmp_path / "color.png")
    with pytest.raises(InputError, match=r"color.png is a colour image: only a class file"):
        read_labels(tmp_path / "color.png")
    Image.fromarray(np.full((4, 6), 70_000, np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(InputError, match="ids from 70000 to 70000"):
        read_labels(tmp_path / "wide.tif")
    Image.fromarray(np.zeros((400, 600), np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.png cannot be read as a label image"):
        read_labels(tmp_path / "cut.png")


def write_pairs(root: Path, images: str, labels: str) -> tuple[Path, Path]:
    """Folders with these files, 6 x 4 pixels; the images are red, the labels of class 3."""
    for folder, names in (("images", images), ("labels", labels)):
        (root / folder).mkdir()
        for name in names.split():
            pixels = np.zeros((4, 6, 3), np.uint8) if folder == "images" else np.full((4, 6), 3)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / name)
    return root / "images", root / "labels"


def test_folders_are_joined_by_stem_and_split_into_streams(tmp_path: Path) -> None:
    folders = write_pairs(tmp_path, "b_1.png a_2.bmp a_1.png c_0.png", "a_2.png b_1.png z_1.png")
    a, b, c = labelled_folder(*folders, rate=10)
    assert [(s.name, s.count) for s in (a, b, c)] == [("a", 2), ("b", 1), ("c", 1)]
    for _ in range(2):
        one, two = a.read()
        assert isinstance(one, LabelledFrame) and isinstance(two, LabelledFrame)
        assert (one.name, one.frame.stamp_ns, one.labels) == ("a_1", 0, None)
        assert (two.name, two.frame.stamp_ns) == ("a_2", 100_000_000)
        assert two.labels is not None and two.labels.tolist() == [[3] * 6] * 4
    (only,) = b.read()
    assert only.frame is not None and only.frame.stamp_ns == 200_000_000, "no stamp is there twice"
    assert sum(s.unmatched() for s in (a, b, c)) == 1
    first = next(iter(labelled_folder(*folders)[1].read()))
    assert first.frame is not None and first.frame.stamp_ns == round(2e9 / 30)


def test_broken_files_are_frames_that_say_why(tmp_path: Path) -> None:
    images, labels = write_pairs(tmp_path, "0.png 1.png 2.png", "0.png 1.png 2.png")
    (images / "0.png").write_bytes(b"cut short")
    Image.fromarray(np.full((4, 6, 3), (1, 2, 3), np.uint8)).save(labels / "1.png")
    (stream,) = labelled_folder(images, labels)
    broken, second, whole = stream.read()
    assert isinstance(broken, BrokenFrame) and broken.frame is None
    assert (broken.name, "0.png cannot be read" in broken.reason) == ("0", True)
    assert isinstance(second, BrokenFrame) and "1.png is a colour image" in second.reason
    assert second.frame is not None, "the image is seen though its labels are broken"
    assert isinstance(whole, LabelledFrame) and whole.labels is not None


def test_folders_that_cannot_be_joined(tmp_path: Path) -> None:
    images, labels = write_pairs(tmp_path, "a.png b.png", "c.png")
    with pytest.raises(
        InputError,
        match=r"no image in .* has labels in .*images has a\.png and .*labels has c\.png",
    ):
        labelled_folder(images, labels)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(labels / "b.png")
    with pytest.raises(InputError, match=r"labels/b\.png is 5x4, its image .*b\.png is 6x4"):
        labelled_folder(images, labels)
    (images / "a.bmp").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.bmp and .*a\.png have one name but for the suffix"):
        labelled_folder(images, labels)


def test_video_frames_are_joined_by_number(tmp_path: Path) -> None:
    video = write_video(tmp_path / "red.mp4")
    _, labels = write_pairs(tmp_path, "", "000001.png drive_3.png 77.png")
    stream = labelled_video(video, labels)
    assert (stream.name, stream.count) == ("red", 5)
    frames = [f for f in stream.read() if isinstance(f, LabelledFrame)]
    assert [f.frame.stamp_ns for f in frames] == [i * 40_000_000 for i in range(5)]
    assert [f.labels is not None for f in frames] == [False, True, False, True, False]
    assert stream.unmatched() == 1
    slow = list(labelled_video(video, labels, rate=5).read())
    assert slow[4].frame is not None and slow[4].frame.stamp_ns == 800_000_000


def test_files_by_number(tmp_path: Path) -> None:
    _, labels = write_pairs(tmp_path, "", "a1_007.png 12.png")
    assert {n: p.name for n, p in files_by_number(labels).items()} == {
        7: "a1_007.png",
        12: "12.png",
    }
    (labels / "x012.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"12\.png and .*x012\.png"):
        files_by_number(labels)
    (labels / "12b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"12b\.png: its name does not end with"):
        files_by_number(labels)
