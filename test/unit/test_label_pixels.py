"""Class ids from ids, channels, colours and palettes; what is doubtful or unfit is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from label_scenes import BUILDING, CAR, SKY, VOID, scene_image, scene_labels
from PIL import Image

from sam2vss_ros.io.label_files import LabelReader, LabelRules
from sam2vss_ros.io.label_pixels import (
    LabelDecoder,
    UnfitLabelsError,
    UnsureLabelsError,
    passed_borders,
    plain_ids,
    settle,
)
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog

CAMVID = load_catalog("camvid")
COLOURS = CAMVID.palette()
IDS = scene_labels()
SQUARE = (slice(0, 4), slice(0, 4))


def decode(pixels: np.ndarray, catalog: ClassCatalog | None = CAMVID) -> np.ndarray:
    return LabelDecoder(catalog).decode(pixels, "labels")


def test_colours_of_the_class_file_are_its_ids() -> None:
    """Black is void, as no class of CamVid is black."""
    assert (COLOURS[VOID] == 0).all()
    np.testing.assert_array_equal(decode(COLOURS[IDS]), IDS)
    opaque = np.dstack([COLOURS[IDS], np.full_like(IDS, 255)])
    np.testing.assert_array_equal(decode(opaque), IDS)


@pytest.mark.parametrize("catalog", [CAMVID, None])
def test_equal_channels_are_ids(catalog: ClassCatalog | None) -> None:
    grey = np.dstack([IDS] * 3)
    np.testing.assert_array_equal(decode(grey, catalog), IDS)
    np.testing.assert_array_equal(decode(np.dstack([grey, np.full_like(IDS, 255)]), catalog), IDS)


def test_what_is_transparent_is_void() -> None:
    alpha = np.full_like(IDS, 255)
    alpha[SQUARE] = 0
    expected = IDS.copy()
    expected[SQUARE] = VOID
    decoder = LabelDecoder(CAMVID)
    pixels = np.dstack([COLOURS[IDS], alpha])
    np.testing.assert_array_equal(decoder.decode(pixels, "x.png"), expected)
    assert decoder.notes["transparent"] == "x.png: transparent pixels are taken for unlabelled"
    with pytest.raises(UnfitLabelsError, match=r"x.png has transparent pixels"):
        LabelDecoder().decode(pixels, "x.png")


def test_colours_of_no_class_are_named() -> None:
    pixels = COLOURS[IDS].copy()
    pixels[SQUARE] = (128, 0, 192)
    pixels[5, 5] = (1, 2, 3)
    message = (
        r"labels has 17 pixels in 2 colours that no class of camvid has, most in \(128, 0, 192\)"
    )
    with pytest.raises(UnfitLabelsError, match=message):
        decode(pixels)
    with pytest.raises(UnfitLabelsError, match="a colour image: only a class file"):
        decode(pixels, None)


def test_two_classes_of_one_colour_cannot_be_told_apart() -> None:
    classes = [SemanticClass(i, name, (9, 8, 7), False) for i, name in enumerate("ab")]
    with pytest.raises(UnfitLabelsError, match="twins has one colour for two classes"):
        decode(np.full((4, 4, 3), (9, 8, 7), np.uint8), ClassCatalog("twins", tuple(classes)))


def test_black_is_a_class_where_the_class_file_says_so() -> None:
    classes = (SemanticClass(7, "ground", (0, 0, 0), False), SemanticClass(2, "a", (1, 2, 3), True))
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = (1, 2, 3)
    assert decode(pixels, ClassCatalog("black", classes)).tolist() == [[2, 2], [7, 7]]


def test_grey_that_may_be_ids_or_colours_follows_its_source() -> None:
    """(0, 0, 0) is void as a colour, and Sky as an id; (128, 128, 128) is Sky as a colour."""
    black, sky = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 128, np.uint8)
    with pytest.raises(UnsureLabelsError, match=r"both ids and colours of camvid \(0\)"):
        decode(black)
    assert (decode(sky) == SKY).all()
    of_colours, of_ids = LabelDecoder(CAMVID), LabelDecoder(CAMVID)
    of_colours.decode(COLOURS[IDS], "first")
    of_ids.decode(np.dstack([IDS] * 3), "first")
    assert (of_colours.decode(black, "second") == VOID).all()
    assert (of_ids.decode(black, "second") == 0).all()


def test_a_source_is_settled_by_the_first_that_tells() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    decoder, asked = LabelDecoder(CAMVID), []

    def attempt(pixels: np.ndarray) -> object:
        asked.append(pixels)
        return decoder.decode(pixels, "labels")

    settle(lambda p=p: attempt(p) for p in (black, black, COLOURS[IDS], COLOURS[IDS]))  # type: ignore[misc]
    assert len(asked) == 3 and (decoder.decode(black, "labels") == VOID).all()
    with pytest.raises(UnsureLabelsError):
        settle([lambda: decode(black), lambda: decode(black)])
    with pytest.raises(UnfitLabelsError, match="no class of camvid"):
        settle([lambda: int("damaged"), lambda: decode(scene_image()), lambda: decode(IDS)])


def palette_image(path: Path, indices: np.ndarray, palette: np.ndarray) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path)
    return path


def read(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    reader = LabelReader(LabelRules(CAMVID))
    return reader.read(path), reader.decoder.notes


def test_the_indices_of_a_palette_are_ids(tmp_path: Path) -> None:
    voc = np.array([(i * 37 % 256, i * 91 % 256, i * 173 % 256) for i in range(256)])
    for name, palette in {"any": voc, "own": COLOURS[:256], "grey": np.arange(768) // 3}.items():
        ids, notes = read(palette_image(tmp_path / f"{name}.png", IDS, palette.reshape(-1, 3)))
        np.testing.assert_array_equal(ids, IDS, name)
        assert notes == {}


@pytest.mark.parametrize("colours", [COLOURS, np.arange(65536)[:, None] % 256 + [0, 0, 0]])
def test_a_palette_that_a_program_made_of_colours_counts_as_colours(
    colours: np.ndarray, tmp_path: Path
) -> None:
    """What optipng and Pillow's quantize do: any order of the colours that there are."""
    used = np.unique(IDS)[::-1]
    place = np.zeros(256, np.uint8)
    place[used] = np.arange(len(used))
    path = palette_image(tmp_path / "a.png", place[IDS], colours[used])
    np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), colours[IDS])
    ids, notes = read(path)
    np.testing.assert_array_equal(ids, IDS)
    assert "a.png: its palette has the colours of camvid in another order" in notes["palette"]


def test_ids_of_no_class_are_noted_once() -> None:
    ids = IDS.copy()
    ids[SQUARE] = 77
    decoder = LabelDecoder(CAMVID)
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(decoder.decode(ids, name), ids)
    assert decoder.notes["ids"].startswith("a.png has 16 pixels with ids (77) that camvid lacks")
    unchecked = LabelDecoder(CAMVID, check_ids=False)
    unchecked.decode(ids, "a.png")
    assert unchecked.notes == {}


@pytest.mark.parametrize(
    "way", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA]
)
@pytest.mark.parametrize("scale", [0.45, 1.7])
def test_labels_resized_with_interpolation_are_noted(way: int, scale: float, shared: Path) -> None:
    paths = sorted((shared / "data" / "camvid" / "val" / "labels").iterdir())[::25]
    for path in paths:
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        decoder = LabelDecoder(CAMVID)
        decoder.decode(cv2.resize(ids, None, fx=scale, fy=scale, interpolation=way), path.name)
        if way == cv2.INTER_AREA and scale > 1:
            continue  # which is nearly nearest neighbour
        assert "resized with interpolation" in decoder.notes["interpolated"]
        for true in (
            ids,
            cv2.resize(ids, None, fx=scale, fy=scale, interpolation=0),
            ids[::4, ::4],
        ):
            assert passed_borders(true) < 0.08


def test_ids_below_zero_are_no_class() -> None:
    ids = IDS.astype(np.int32)
    ids[SQUARE] = -1
    expected = IDS.copy()
    expected[SQUARE] = VOID
    decoder = LabelDecoder(CAMVID)
    np.testing.assert_array_equal(decoder.decode(ids, "x.tif"), expected)
    assert decoder.notes["below 0"] == "x.tif: 16 pixels below 0 are taken for unlabelled"
    assert decode(ids).dtype == np.uint8
    assert (plain_ids(ids)[SQUARE] == 65535).all()
    big = IDS.astype(">u2") + 300
    assert plain_ids(big).dtype == np.dtype("u2") and plain_ids(big)[0, 0] == 300 + SKY
    with pytest.raises(UnfitLabelsError, match="holds ids from 1 to 70000; they end at 65535"):
        decode(np.array([[BUILDING, 70000]], np.int32))


def test_one_bit_is_the_ids_0_and_1_and_noted_where_there_are_others() -> None:
    two = ClassCatalog("two", CAMVID.classes[:2], None)
    for catalog, noted in ((CAMVID, True), (two, True), (None, False)):
        decoder = LabelDecoder(catalog)
        np.testing.assert_array_equal(decoder.decode(IDS > 3, "x.png"), IDS > 3)
        assert ("bits" in decoder.notes) == noted


def test_void_is_free_where_the_class_file_has_none() -> None:
    classes = (SemanticClass(255, "a", (1, 2, 3), False), SemanticClass(1, "b", (4, 5, 6), False))
    catalog = ClassCatalog("none", classes)
    assert catalog.void_id == 256 and CAMVID.void_id == 11
    pixels = np.full((2, 2, 3), (1, 2, 3), np.uint8)
    pixels[0, 0] = 0
    assert decode(pixels, catalog).tolist() == [[256, 255], [255, 255]]
    assert CAR in CAMVID.ids
