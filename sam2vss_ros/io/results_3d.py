"""What `sam2vss run` writes of a recording with depth.

- `objects_3d.jsonl`: one line per frame with its objects in space
- `clouds/000000.ply` ...: the depth of a frame as points with colours, classes and track ids
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.geometry.cloud import PixelLabels, labelled_cloud
from sam2vss_ros.geometry.objects import Object3D, place_objects
from sam2vss_ros.io.depth_folder import DepthFolder
from sam2vss_ros.io.outputs import LineFile, write_bytes
from sam2vss_ros.io.ply import ply_of
from sam2vss_ros.types import Frame, SemanticFrame

OBJECTS_3D, CLOUDS = "objects_3d.jsonl", "clouds"


class Results3D:
    """Writes into `folder` what depth says of one frame after the other. clouds: those, too."""

    def __init__(self, depth: DepthFolder, folder: Path, clouds: bool) -> None:
        self._depth = depth
        self._lines = LineFile(folder / OBJECTS_3D)
        self._clouds = folder / CLOUDS if clouds else None
        if self._clouds is not None:
            self._clouds.mkdir()

    def __enter__(self) -> Results3D:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def add(self, index: int, frame: Frame, answer: SemanticFrame) -> dict[str, float]:
        """Write one frame; returns the milliseconds of each computation, without files.

        A frame without depth has objects without a place, and no cloud. Raises InputError for depth
        that does not fit, OSError.
        """
        height, width = frame.image.shape[:2]
        depth, camera = self._depth.read(index, (width, height)), self._depth.camera
        start = time.perf_counter()
        if depth is None:
            placed = [Object3D(tracked, None, 0, 0.0) for tracked in answer.objects]
        else:
            placed = place_objects(answer.objects, depth, camera)
        milliseconds = {"objects 3-D": (time.perf_counter() - start) * 1e3}
        self._lines.write(json.dumps(frame_record(index, answer.stamp_ns, placed)) + "\n")
        if self._clouds is not None and depth is not None:
            start = time.perf_counter()
            labels = PixelLabels(answer.label_image, answer.confidence_image, answer.instance_image)
            cloud = labelled_cloud(depth, camera, frame.image, labels, "label")
            milliseconds["cloud"] = (time.perf_counter() - start) * 1e3
            write_bytes(self._clouds / f"{index:06d}.ply", ply_of(cloud))
        return milliseconds


def frame_record(index: int, stamp_ns: int, placed: Sequence[Object3D]) -> dict[str, Any]:
    """One line of `objects_3d.jsonl`."""
    return {
        "frame": index,
        "stamp_ns": stamp_ns,
        "objects": [object_record(seen) for seen in placed],
    }


def object_record(seen: Object3D) -> dict[str, Any]:
    """An object in metres, in the camera's optical frame; null where it has no place in space.

    center and size are of its box, covariance is that of the centroid; valid_depth is the share of
    its pixels with depth.
    """
    place = seen.placement
    return {
        "id": seen.tracked.track_id,
        "class": seen.tracked.class_name,
        "class_id": int(seen.tracked.class_id),
        "valid": place is not None,
        "points": seen.points,
        "valid_depth": round(seen.valid_depth, 4),
        "center": None if place is None else _rounded(place.center),
        "size": None if place is None else _rounded(place.size),
        "centroid": None if place is None else _rounded(place.centroid),
        "covariance": None if place is None else place.covariance.tolist(),
    }


def _rounded(metres: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in metres]
