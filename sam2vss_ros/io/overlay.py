"""Drawing a `SemanticFrame` over its camera image, for people.

Surfaces carry the colour of their class, outlines the colour of their track id, which stays the
same for as long as the object lives. All drawing is by look-up table and OpenCV; no Python runs
per pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog
from sam2vss_ros.sizes import other_side
from sam2vss_ros.types import SemanticFrame, TrackedObject, TrackState

Image = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

CLASS_OPACITY = 0.5
TAG_OPACITY = 0.7
FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN_RATIO = 0.618034
WIDEST_RIM = 4
"""Pixels, as at 1080 rows; the time to find a rim grows with the square of its width."""
WHITE, INK = (255, 255, 255), (24, 24, 24)


def draw_overlay(image: Image, frame: SemanticFrame, catalog: ClassCatalog) -> Image:
    """Draw labels, outlines and tags of `frame` over a copy of its image.

    image: (H, W, 3) uint8 RGB, the image that `frame` answers. Returns (H, W, 3) uint8 RGB.
    Pixels without a class stay as the camera saw them; confirmed objects get a tag with class,
    track id and class score (`Car 12 0.87`) where there is room for it.
    Raises ValueError if the image is not of the frame's size.
    """
    if image.shape != (*frame.label_image.shape, 3):
        raise ValueError(
            f"the image is {image.shape}, the labels are {frame.label_image.shape}: not one frame"
        )
    canvas = _blend_classes(np.ascontiguousarray(image), frame.label_image, catalog)
    _draw_outlines(canvas, frame.instance_image)
    _draw_tags(canvas, frame.objects, catalog)
    return canvas


def contact_sheet(
    images: Iterable[Image],
    columns: int,
    cell_width: int = 480,
    catalog: ClassCatalog | None = None,
) -> Image:
    """Tile RGB images, in order, row by row; with a catalog, a legend of its classes goes below.

    All cells have the proportions of the first image, within bounds. Returns (height, width, 3)
    uint8 RGB. Raises ValueError without images or columns.
    """
    tiles = list(images)
    if not tiles or columns < 1:
        raise ValueError(f"a contact sheet needs images and columns, not {len(tiles)}, {columns}")
    height, width = tiles[0].shape[:2]
    cell = cell_width, other_side(cell_width, width, height)
    gap = max(2, cell_width // 100)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full(
        (gap + rows * (cell[1] + gap), gap + columns * (cell[0] + gap), 3), INK, np.uint8
    )
    for i, tile in enumerate(tiles):
        y, x = (gap + i // columns * (cell[1] + gap), gap + i % columns * (cell[0] + gap))
        sheet[y : y + cell[1], x : x + cell[0]] = cv2.resize(
            tile, cell, interpolation=cv2.INTER_AREA
        )
    return sheet if catalog is None else np.vstack([sheet, legend(catalog, sheet.shape[1])])


def legend(catalog: ClassCatalog, width: int) -> Image:
    """A strip of `width` pixels with colour and name of every class, RGB uint8."""
    line, margin, scale = 28, 10, 0.5
    entries: list[tuple[int, int, tuple[int, int, int], str]] = []
    x, y = margin, 0
    for c in catalog.classes:
        taken = 18 + cv2.getTextSize(c.name, FONT, scale, 1)[0][0] + 2 * margin
        if x > margin and x + taken > width:
            x, y = margin, y + line
        entries.append((x, y, c.color, c.name))
        x += taken
    strip = np.full((y + line, width, 3), INK, np.uint8)
    for x, y, color, name in entries:
        cv2.rectangle(strip, (x, y + 7), (x + 13, y + 20), color, cv2.FILLED)
        cv2.rectangle(strip, (x, y + 7), (x + 13, y + 20), WHITE, 1)
        cv2.putText(strip, name, (x + 20, y + 19), FONT, scale, WHITE, 1, cv2.LINE_AA)
    return strip


@functools.cache
def track_colors() -> Image:
    """(65536, 3) uint8 RGB: a bright colour for every value of the instance image.

    Steps of the golden ratio around the hue circle keep neighbouring ids far apart.
    """
    ids = np.arange(IMAGE_ID_LIMIT)
    hsv = np.empty((IMAGE_ID_LIMIT, 1, 3), np.uint8)
    hsv[:, 0, 0] = ids * GOLDEN_RATIO % 1.0 * 180  # OpenCV's 8-bit hue counts to 180
    hsv[:, 0, 1] = 150 + ids % 2 * 80
    hsv[:, 0, 2] = 255
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[:, 0], np.uint8)


@functools.lru_cache(maxsize=4)
def _class_table(catalog: ClassCatalog) -> tuple[Image, Image]:
    """Colours by id, and by id 1 where no class has it."""
    empty = np.ones(IMAGE_ID_LIMIT, np.uint8)
    empty[catalog.ids] = 0
    return catalog.palette(), empty


def _blend_classes(image: Image, labels: npt.NDArray, catalog: ClassCatalog) -> Image:
    colors, empty = _class_table(catalog)
    if labels.dtype == np.uint8:  # the usual case; OpenCV's table look-up is faster than numpy's
        surface = cv2.LUT(cv2.cvtColor(labels, cv2.COLOR_GRAY2RGB), colors[None, :256])
        uncovered = cv2.LUT(labels, empty[:256])
    else:
        surface, uncovered = np.take(colors, labels, axis=0), np.take(empty, labels)
    canvas = cv2.addWeighted(image, 1 - CLASS_OPACITY, surface, CLASS_OPACITY, 0)
    cv2.copyTo(image, uncovered, canvas)
    return np.asarray(canvas, np.uint8)


def _draw_outlines(canvas: Image, instances: npt.NDArray[np.uint16]) -> None:
    """Colour the rim of every object, inside its own pixels, so that neighbours keep theirs."""
    width = min(max(1, round(min(canvas.shape[:2]) / 240)), WIDEST_RIM)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    borders = cv2.morphologyEx(instances, cv2.MORPH_GRADIENT, around)
    pixels = np.flatnonzero(borders > 0)  # of bools: an eighth of the time
    owners = instances.ravel()[pixels]
    pixels, owners = pixels[owners > 0], owners[owners > 0]
    canvas.reshape(-1, 3)[pixels] = track_colors()[owners]


def _draw_tags(canvas: Image, objects: Sequence[TrackedObject], catalog: ClassCatalog) -> None:
    """Tag confirmed objects, the largest first; one that finds no room stays without."""
    height, width = canvas.shape[:2]
    scale = max(0.34, min(height, width) / 480 * 0.38)
    colors, _ = _class_table(catalog)
    placed: list[Box] = []
    seen = [o for o in objects if o.state == TrackState.CONFIRMED and o.area > 0]
    for obj in sorted(seen, key=lambda o: -o.area):
        text = f"? {obj.track_id}"
        if obj.class_name:
            text = f"{obj.class_name} {obj.track_id} {obj.class_score:.2f}"
        (w, h), below = cv2.getTextSize(text, FONT, scale, 1)
        size = w + h + 12, h + below + 4
        for x, y in _tag_places(obj, size):
            x, y = min(max(x, 0), width - size[0]), min(max(y, 0), height - size[1])
            box = x, y, x + size[0], y + size[1]
            if x >= 0 and y >= 0 and not any(_overlap(box, other) for other in placed):
                chip = tuple(int(v) for v in colors[obj.class_id])
                _draw_tag(canvas, box, text, scale, chip)
                placed.append(box)
                break


def _tag_places(obj: TrackedObject, size: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Top left corners for a tag of `size`, best first: inside what is large, else beside it."""
    x, y, w, h = obj.box
    if w > size[0] and h > 2 * size[1]:
        cx, cy = _inner_point(obj)
        yield cx - size[0] // 2, cy - size[1] // 2
        yield cx - size[0] // 2, cy + size[1]
    middle = x + w // 2 - size[0] // 2
    yield middle, y - size[1] - 2
    yield middle, y + h + 2
    yield x + w + 2, y


def _inner_point(obj: TrackedObject) -> tuple[int, int]:
    """The centroid, or, where that is outside the mask, the mask's point farthest from its rim."""
    left, top = obj.box[:2]
    x, y = (int(v) for v in obj.centroid)
    if obj.mask[y - top, x - left]:
        return x, y
    step = max(1, min(obj.mask.shape) // 64)  # a coarse mask is enough for placing a tag
    small = np.pad(obj.mask[::step, ::step], 1).astype(np.uint8)
    depth = cv2.distanceTransform(small, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return left + (int(column) - 1) * step, top + (int(row) - 1) * step


def _draw_tag(canvas: Image, box: Box, text: str, scale: float, chip: tuple[int, ...]) -> None:
    """A dark translucent plate with a chip in the class colour and white text."""
    x0, y0, x1, y1 = box
    plate = canvas[y0:y1, x0:x1]
    plate[:] = cv2.addWeighted(plate, 1 - TAG_OPACITY, np.full_like(plate, INK), TAG_OPACITY, 0)
    middle, half = (y0 + y1) // 2, max(2, (y1 - y0) // 5)
    corners = (x0 + 4, middle - half), (x0 + 4 + 2 * half, middle + half)
    cv2.rectangle(canvas, *corners, chip, cv2.FILLED)
    baseline = y1 - max(4, (y1 - y0) // 3)
    cv2.putText(canvas, text, (x0 + 9 + 2 * half, baseline), FONT, scale, WHITE, 1, cv2.LINE_AA)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
