"""The overlay: colours where they belong, and the camera's pixels where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sam2vss_ros.io.overlay import contact_sheet, draw_overlay, legend, track_colors
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog
from sam2vss_ros.types import SemanticFrame, TrackedObject, TrackState

CATALOG = load_catalog("camvid")
ROAD, CAR = 3, 8
UNLABELLED = 255


def tracked(
    track_id: int, mask: np.ndarray, class_id: int, state: TrackState = TrackState.CONFIRMED
) -> TrackedObject:
    ys, xs = np.nonzero(mask)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return TrackedObject(
        track_id=track_id, state=state, class_id=class_id,
        class_name=CATALOG.classes[class_id].name, class_score=0.87,
        class_probabilities=np.zeros(len(CATALOG), np.float32), predicted_iou=0.9, visibility=1.0,
        box=(x, y, w, h), area=len(xs), centroid=(float(xs.mean()), float(ys.mean())), age=3,
        frames_since_seen=0, mask=mask[y : y + h, x : x + w],
    )  # fmt: skip


def scene(height: int = 240, width: int = 320) -> tuple[np.ndarray, SemanticFrame]:
    """Road below, nothing known above, one car on the road."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    labels = np.full((height, width), UNLABELLED, np.uint8)
    labels[height // 2 :] = ROAD
    car = np.zeros((height, width), bool)
    car[height * 3 // 4 : height * 7 // 8, width // 4 : width // 2] = True
    labels[car] = CAR
    instances = np.where(car, 7, 0).astype(np.uint16)
    return image, SemanticFrame(
        0, labels, np.zeros_like(labels), instances, (tracked(7, car, CAR),), True, 0.1
    )


def test_surfaces_carry_class_colours_and_unlabelled_pixels_stay() -> None:
    image, frame = scene()
    before = image.copy()
    drawn = draw_overlay(image, frame, CATALOG)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[:120], image[:120])
    road = drawn[125:150].astype(int) - image[125:150] * 0.5
    assert np.abs(road - np.array(CATALOG.classes[ROAD].color) * 0.5).max() <= 1


def test_outline_is_the_objects_rim_in_the_colour_of_its_track() -> None:
    image, frame = scene()
    drawn = draw_overlay(image, replace(frame, objects=()), CATALOG)
    color = track_colors()[7]
    rim = (drawn == color).all(axis=2)
    car = frame.instance_image == 7
    inside = cv2.erode(car.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert rim[car & ~inside].all()
    assert not rim[~car].any()
    assert not rim[cv2.erode(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)].any()


def test_track_colours_differ_and_stay() -> None:
    colors = track_colors().astype(int)
    assert colors.shape == (65536, 3)
    near = [np.abs(colors[i] - colors[j]).sum() for i in range(1, 17) for j in range(1, i)]
    assert min(near) > 40


def test_only_confirmed_objects_are_tagged() -> None:
    image, frame = scene()
    plain = draw_overlay(image, replace(frame, objects=()), CATALOG)
    tentative = replace(frame.objects[0], state=TrackState.TENTATIVE)
    drawn = draw_overlay(image, replace(frame, objects=(tentative,)), CATALOG)
    np.testing.assert_array_equal(drawn, plain)
    assert (draw_overlay(image, frame, CATALOG) != plain).any()


def tag_box(image: np.ndarray, frame: SemanticFrame) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around everything that `frame.objects` add to the drawing."""
    plain = draw_overlay(image, replace(frame, objects=()), CATALOG)
    tagged = (draw_overlay(image, frame, CATALOG) != plain).any(axis=2)
    ys, xs = np.nonzero(tagged)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_only_a_known_class_has_its_score_in_the_tag() -> None:
    image, frame = scene()
    car = frame.objects[0]
    pictures = [
        draw_overlay(image, replace(frame, objects=(one,)), CATALOG).tobytes()
        for name in (car.class_name, "")
        for one in (replace(car, class_name=name), replace(car, class_name=name, class_score=0.1))
    ]
    assert len(set(pictures)) == 3 and pictures[2] == pictures[3]


def test_large_objects_are_tagged_on_themselves_and_small_ones_beside() -> None:
    image, frame = scene(480, 640)
    left, top, width, height = frame.objects[0].box
    x0, y0, x1, y1 = tag_box(image, frame)
    assert left <= x0 < x1 <= left + width and top <= y0 < y1 <= top + height
    assert 60 < x1 - x0 < 140 and 10 < y1 - y0 < 30

    small = np.zeros((480, 640), bool)
    small[200:210, 300:312] = True
    x0, y0, x1, y1 = tag_box(image, replace(frame, objects=(tracked(9, small, CAR),)))
    assert y1 <= 200 and abs((x0 + x1) / 2 - 306) < 3


def test_tags_do_not_cover_each_other() -> None:
    """Two objects at one place: the larger is tagged above; the other finds a place of its own."""
    image, frame = scene()
    car = frame.instance_image == 7
    one = draw_overlay(image, frame, CATALOG)
    both = draw_overlay(
        image, replace(frame, objects=(*frame.objects, tracked(8, car, CAR))), CATALOG
    )
    plain = draw_overlay(image, replace(frame, objects=()), CATALOG)
    first = (one != plain).any(axis=2)
    np.testing.assert_array_equal(both[first], one[first])
    assert (both != one).any()


def test_concave_object_is_tagged_on_itself() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    frame_shape = np.zeros((480, 640), bool)
    frame_shape[40:440, 20:620] = True
    frame_shape[100:440, 120:520] = False  # an arch: its centroid is in the open middle
    labels = np.where(frame_shape, ROAD, UNLABELLED).astype(np.uint8)
    frame = SemanticFrame(
        0, labels, labels, np.where(frame_shape, 1, 0).astype(np.uint16),
        (tracked(1, frame_shape, ROAD),), True, 1.0,
    )  # fmt: skip
    x0, y0, x1, y1 = tag_box(image, frame)
    assert frame_shape[(y0 + y1) // 2, (x0 + x1) // 2]


def test_sixteen_bit_labels_and_invisible_objects() -> None:
    catalog = ClassCatalog("wide", (SemanticClass(1000, "far", (0, 200, 0), False),))
    labels = np.full((60, 80), 1000, np.uint16)
    labels[:30] = 65535
    gone = replace(
        scene()[1].objects[0], state=TrackState.LOST, box=(0, 0, 0, 0), area=0,
        mask=np.zeros((0, 0), bool),
    )  # fmt: skip
    frame = SemanticFrame(
        0, labels, np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint16), (gone,), False, 0.0
    )
    drawn = draw_overlay(np.zeros((60, 80, 3), np.uint8), frame, catalog)
    assert (drawn[:30] == 0).all() and (drawn[30:] == (0, 100, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5)])
def test_tiny_images(size: tuple[int, int]) -> None:
    mask = np.ones(size, bool)
    labels = np.full(size, CAR, np.uint8)
    frame = SemanticFrame(
        0, labels, labels, mask.astype(np.uint16), (tracked(1, mask, CAR),), True, 1.0
    )
    assert draw_overlay(np.zeros((*size, 3), np.uint8), frame, CATALOG).shape == (*size, 3)


def test_views_are_drawn_like_copies() -> None:
    image, frame = scene()
    flipped = image[:, :, ::-1]
    np.testing.assert_array_equal(
        draw_overlay(flipped, frame, CATALOG), draw_overlay(flipped.copy(), frame, CATALOG)
    )


def test_image_of_another_size_is_refused() -> None:
    image, frame = scene()
    with pytest.raises(ValueError, match="not one frame"):
        draw_overlay(image[:-1], frame, CATALOG)


def test_contact_sheet_keeps_order_and_proportions() -> None:
    tiles = [np.full((30, 40, 3), value, np.uint8) for value in (50, 100, 150)]
    sheet = contact_sheet(tiles, columns=2, cell_width=80)
    assert sheet.shape == (2 + 2 * 62, 2 + 2 * 82, 3)
    assert [int(sheet[30, 40, 0]), int(sheet[30, 120, 0]), int(sheet[90, 40, 0])] == [50, 100, 150]
    with_legend = contact_sheet(tiles, columns=2, cell_width=80, catalog=CATALOG)
    assert with_legend.shape[1] == sheet.shape[1] and with_legend.shape[0] > sheet.shape[0]
    with pytest.raises(ValueError, match="needs images"):
        contact_sheet([], columns=2)


def test_legend_shows_every_class_at_any_width() -> None:
    for width in (200, 900):
        strip = legend(CATALOG, width)
        assert strip.shape[1] == width
        for c in CATALOG.classes:
            assert (strip == c.color).all(axis=2).sum() > 100, c.name
