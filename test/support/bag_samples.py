"""Small bags for tests, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.cli import main
from sam2vss_ros.io.bag_writer import (
    header,
    image_message,
    label_message,
    new_bag,
    types,
)
from sam2vss_ros.io.readers import LabelledFrame

WIDTH, HEIGHT = 64, 48
STAMP = 1_700_000_000_123_456_789  # more digits than a float has
STEP = 33_333_333
IMAGES, LABELS = "/camera/image_raw", "/camera/labels"
Pixels = npt.NDArray[Any]


def picture(index: int) -> Pixels:
    """(HEIGHT, WIDTH, 3) uint8 RGB: smooth, and another for every index."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + 2 * x, 40 + 3 * y, 200 - x - y - 5 * index], -1).astype(np.uint8)


def ids(index: int, dtype: type = np.uint8) -> Pixels:
    labels: Pixels = np.zeros((HEIGHT, WIDTH), dtype)
    labels[index % HEIGHT :] = 1 + index % 10
    return labels


def text(content: str) -> Any:
    return types().types["std_msgs/msg/String"](content)


def raw(index: int) -> Any:
    return image_message(picture(index), "rgb8", header(STAMP + index * STEP, "front"))


def labels_of(index: int) -> Any:
    return label_message(ids(index), header(STAMP + index * STEP, "front"))


def write(path: Path, *messages: tuple[str, Any, int], storage: str = "mcap") -> Path:
    """A bag of (topic, message, frames after STAMP when it was recorded)."""
    with new_bag(path, storage) as bag:
        for topic, message, frames in messages:
            bag.write(topic, message, STAMP + frames * STEP)
    return path


def frames(items: Any) -> list[LabelledFrame]:
    items = list(items)
    assert all(isinstance(item, LabelledFrame) for item in items), items
    return items


def assert_labels(item: LabelledFrame, expected: Pixels) -> None:
    assert item.labels is not None
    np.testing.assert_array_equal(item.labels, expected)


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])
