"""Organised point clouds with labels: one record per pixel of the depth image, in two layouts."""

from __future__ import annotations

import array
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.depth import Depth


def _record(point_step: int, **fields: tuple[str, int]) -> np.dtype:
    """Of little-endian fields by their type and offset."""
    kinds, offsets = zip(*fields.values(), strict=True)
    return np.dtype(
        {"names": [*fields], "formats": kinds, "offsets": offsets, "itemsize": point_step}
    )


XYZ = {"x": ("<f4", 0), "y": ("<f4", 4), "z": ("<f4", 8)}
"""Metres, NaN where there is no depth."""

LABEL = _record(
    28, **XYZ, rgb=("<f4", 12), label=("<u2", 16), instance=("<u4", 20), confidence=("<f4", 24)
)
"""rgb: 0x00RRGGBB in the bits of a float, as PCL has it. label: class id. instance: track id, 0 is
none. confidence: of the class, from 0 to 1."""

XYZCPE = _record(24, **XYZ, class_id=("u1", 12), probability=("<f4", 16), entropy=("<f4", 20))
"""Autoware's semantic points. probability: of the class, from 0 to 1. entropy: of all classes, in
nats."""

UNIT = np.float32(1 / 255)
"""What makes 0..1 of confidences from 0 to 255."""

LAYOUTS = {"label": LABEL, "xyzcpe": XYZCPE}


class PixelLabels(NamedTuple):
    """What the pixels of an image are, all (H, W): class ids, uint8 or uint16; confidence from 0 to
    255, uint8; track ids, uint16; and the entropy over all classes in nats, float32, which only the
    layout xyzcpe asks for."""

    classes: npt.NDArray[np.integer]
    confidence: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint16]
    entropy: npt.NDArray[np.float32] | None = None

    def at(self, place: tuple[Any, ...]) -> PixelLabels:
        """Those of some pixels."""
        entropy = None if self.entropy is None else self.entropy[place]
        return PixelLabels(
            self.classes[place], self.confidence[place], self.instances[place], entropy
        )


def labelled_cloud(
    depth: Depth,
    camera: PinholeCamera,
    image: npt.NDArray[np.uint8],
    labels: PixelLabels,
    layout: str,
    size: tuple[int, int] | None = None,
    data: array.array[int] | None = None,
) -> npt.NDArray[Any]:
    """The records of a layout of LAYOUTS for every pixel.

    image: (H, W, 3) RGB; it and the labels have the size of the depth image. size: width and height
    of the cloud, whose points are then those of the nearest pixels; None: (H, W). data: empty, is
    given the bytes that the records are. Raises InputError for class ids that the layout cannot
    hold and an entropy that it lacks.
    """
    rays, fill = camera.rays(*depth.shape), {"label": _label, "xyzcpe": _xyzcpe}[layout]
    if size is not None and size != depth.shape[::-1]:
        columns, rows = (_nearest(n, m) for n, m in zip(size, depth.shape[::-1], strict=True))
        at = np.ix_(rows, columns)
        depth, image, rays = depth[at], image[at], (rays[0][columns], rays[1][rows])
        labels = labels.at(at)
    # Bytes as a message has them: taking memory twice costs more than filling it.
    data = array.array("B") if data is None else data
    data.frombytes(bytes(LAYOUTS[layout].itemsize))
    data *= depth.size
    cloud = np.frombuffer(data, LAYOUTS[layout]).reshape(depth.shape)
    fill(cloud, image, labels)
    np.multiply(depth, rays[0], out=cloud["x"])
    np.multiply(depth, rays[1][:, None], out=cloud["y"])
    cloud["z"] = depth
    return cloud


def _label(cloud: npt.NDArray[Any], image: npt.NDArray[np.uint8], labels: PixelLabels) -> None:
    colours = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGRA).view("<u4")[..., 0]
    colours &= 0xFFFFFF
    cloud["rgb"] = colours.view("<f4")
    cloud["label"] = labels.classes
    cloud["instance"] = labels.instances
    np.multiply(labels.confidence, UNIT, out=cloud["confidence"])


def _xyzcpe(cloud: npt.NDArray[Any], image: npt.NDArray[np.uint8], labels: PixelLabels) -> None:
    if labels.classes.dtype != np.uint8:
        raise InputError(
            "xyzcpe holds class ids up to 255, these need 16 bits: give unlabelled_id and the "
            "classes smaller ids, or take the layout label"
        )
    if labels.entropy is None:
        raise InputError("xyzcpe holds the entropy of every pixel, which was not asked for")
    cloud["class_id"] = labels.classes
    np.multiply(labels.confidence, UNIT, out=cloud["probability"])
    cloud["entropy"] = labels.entropy


def _nearest(wanted: int, given: int) -> npt.NDArray[np.intp]:
    """Which of `given` pixels lies at the middle of each of `wanted`."""
    return (2 * np.arange(wanted) + 1) * given // (2 * wanted)
