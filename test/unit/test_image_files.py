"""Image and label files as people have them: turned, deep, transparent, animated, damaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from label_scenes import HEIGHT, WIDTH, save_turned, scene_image, scene_labels, write_png
from PIL import Image

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.image_files import (
    image_size,
    read_header,
    read_image,
    read_label_pixels,
    turned,
)
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.io.label_pixels import UnfitLabelsError


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".JPG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_viewers_show_them(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    path = save_turned(tmp_path / f"a{suffix}", scene_image(), orientation)
    assert np.abs(read_image(path).astype(int) - scene_image()).max() <= 6
    header = read_header(path)
    assert header.size == image_size(path) == (WIDTH, HEIGHT)
    assert header.orientation == orientation
    assert header.stored_size == ((HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_is_what_an_orientation_means(orientation: int, tmp_path: Path) -> None:
    path = save_turned(tmp_path / "a.png", scene_labels(), orientation)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(turned(stored, orientation), scene_labels())
    np.testing.assert_array_equal(read_labels(path), scene_labels())


def test_an_orientation_that_is_none_counts_for_none(tmp_path: Path) -> None:
    path = save_turned(tmp_path / "a.jpg", scene_image(), 77)
    assert read_header(path).orientation == 1 and read_image(path).shape == (HEIGHT, WIDTH, 3)


def test_a_header_is_read_without_decoding_the_image(tmp_path: Path) -> None:
    """Also where the orientation of a PNG comes after its pixels."""
    whole = save_turned(tmp_path / "a.png", scene_image(), 6).read_bytes()
    start = whole.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(whole[start : start + 4], "big")
    late = whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:]
    (tmp_path / "late.png").write_bytes(late)
    assert read_header(tmp_path / "late.png").orientation == 6
    np.testing.assert_array_equal(read_image(tmp_path / "late.png"), scene_image())
    for name, data, size in (
        ("turned", whole, (WIDTH, HEIGHT)),
        ("upright", whole[:start] + whole[end:], (HEIGHT, WIDTH)),
    ):
        pixels = data.index(b"IDAT") + 4
        path = tmp_path / f"{name}.png"
        path.write_bytes(data[:pixels] + bytes(20) + data[pixels + 20 :])  # what cannot be decoded
        assert read_header(path).size == size
        with pytest.raises(InputError):
            read_image(path)


def test_every_kind_of_image_becomes_rgb(tmp_path: Path) -> None:
    """As OpenCV reads them where it can, so that a bag of the same files is the same."""
    rgb, grey = scene_image(), scene_image()[..., 0]
    alpha = np.dstack([rgb, scene_labels()])
    deep = grey.astype(np.uint16) * 256 + 77
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(rgb).quantize(64).save(tmp_path / "palette.png")
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    Image.fromarray(rgb).save(tmp_path / "lossy.jpg", quality=60)
    Image.fromarray(rgb).save(tmp_path / "lossy.webp", quality=60)
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), np.dstack([grey] * 3))
    for path in tmp_path.iterdir():
        image = read_image(path)
        assert image.flags.writeable and image.dtype == np.uint8
        np.testing.assert_array_equal(image[..., ::-1], cv2.imread(str(path)), str(path))


def test_a_camera_of_12_bits_is_not_dark(tmp_path: Path) -> None:
    """As in a bag of the same images; those of a stream share a contrast."""
    ramp = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (64, 1))
    for name in ("a.png", "a.tif", "a.pgm"):
        cv2.imwrite(str(tmp_path / name), ramp)
        image = read_image(tmp_path / name)
        assert image.min() == 0 and image.max() == 255 and abs(image.mean() - 127.5) < 2
    stream = Contrast()
    read_image(tmp_path / "a.png", contrast=stream)
    cv2.imwrite(str(tmp_path / "half.png"), ramp // 2)
    assert 110 < read_image(tmp_path / "half.png", contrast=stream).max() < 160


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".ppm"])
def test_sizes_are_bounded_before_anything_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(scene_image()).save(path)
    pixels = WIDTH * HEIGHT
    assert read_image(path, pixels).shape == (HEIGHT, WIDTH, 3)
    said = f"cannot be read as .*: the image is {WIDTH} x {HEIGHT}, max_image_pixels allows"
    for read in (
        lambda: read_image(path, pixels - 1),
        lambda: read_header(path, pixels - 1),
        lambda: read_label_pixels(path, str(path), pixels - 1),
    ):
        with pytest.raises(InputError, match=said):
            read()


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.fromarray(scene_image()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - scene_image())
    assert np.median(difference) <= 2


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_file_of_several_pictures_is_no_frame(suffix: str, tmp_path: Path) -> None:
    pictures = [Image.fromarray(scene_image(i)) for i in range(3)]
    path = tmp_path / f"a{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    for read in (read_image, image_size, read_labels):
        with pytest.raises(InputError, match=rf"a\{suffix} holds 3 pictures"):
            read(path)


def test_damaged_and_missing_files_are_named_in_one_line(tmp_path: Path) -> None:
    whole = save_turned(tmp_path / "whole.jpg", np.tile(scene_image(), (9, 9, 1)), 1).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    reasons = {
        "cut.jpg": "truncated",
        "empty.png": "it is empty",
        "text.png": "its content is none, or damaged",
        "link.png": "No such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / name)
        message = str(caught.value)
        assert f"{name} cannot be read as an image: " in message and reason in message
        assert "\n" not in message


def test_names_with_spaces_and_letters_of_any_script(tmp_path: Path) -> None:
    for name in ("a b.png", "größe 街.png", "100%.PNG", "a'b.png"):
        Image.fromarray(scene_labels()).save(tmp_path / name)
        np.testing.assert_array_equal(read_labels(tmp_path / name), scene_labels())
        assert read_image(tmp_path / name).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("depth", "most"), [(1, 1), (2, 3), (4, 15), (8, 200), (16, 60000)])
def test_grey_labels_of_any_depth_are_their_ids(depth: int, most: int, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, most + 1, (16, 16)).astype(np.uint16)
    path = write_png(tmp_path / "a.png", depth, 0, ids)
    np.testing.assert_array_equal(read_labels(path), ids)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_labels_of_any_suffix(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(scene_labels()).save(tmp_path / f"a{suffix}", lossless=True)
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}"), scene_labels())


def test_labels_compressed_with_loss_are_refused(tmp_path: Path) -> None:
    labels = Image.fromarray(scene_labels())
    labels.save(tmp_path / "a.jpg", quality=100)
    labels.save(tmp_path / "a.webp", quality=100)
    labels.convert("RGB").save(tmp_path / "a.tif", compression="jpeg")
    exif = Image.Exif()
    exif[0x112] = 1
    labels.save(tmp_path / "extended.webp", quality=100, exif=exif)
    for path in tmp_path.iterdir():
        with pytest.raises(UnfitLabelsError, match=rf"{path.name} is compressed with loss"):
            read_labels(path)
    labels.save(tmp_path / "extended.webp", lossless=True, exif=exif)
    np.testing.assert_array_equal(read_labels(tmp_path / "extended.webp"), scene_labels())


def test_pixels_that_hold_no_ids_are_refused(tmp_path: Path) -> None:
    Image.fromarray(scene_labels().astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(scene_image()).convert("CMYK").save(tmp_path / "cmyk.tif")
    write_png(tmp_path / "deep.png", 16, 2, np.full((4, 12), 3, np.uint16))
    write_png(tmp_path / "deeper.png", 16, 4, np.full((4, 8), 3, np.uint16))
    for path in tmp_path.iterdir():
        with pytest.raises(UnfitLabelsError, match=rf"{path.name} is an image of mode"):
            read_label_pixels(path, str(path))
