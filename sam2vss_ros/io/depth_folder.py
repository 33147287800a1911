"""A recording's depth images, each with the camera that took it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import InputError
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.depth import Depth, to_metres
from sam2vss_ros.io.frame_files import files_by_frame
from sam2vss_ros.io.image_files import read_depth_pixels
from sam2vss_ros.io.intrinsics import load_intrinsics


@dataclass(frozen=True)
class DepthFolder:
    """The depth of each frame that has any, registered to its image. files: by the frame's index.
    scale: metres per unit, 0: what the type of the files says."""

    files: dict[int, Path]
    camera: PinholeCamera
    size: tuple[int, int] | None
    scale: float
    camera_file: Path
    most_pixels: int = MOST_PIXELS

    @staticmethod
    def open(
        recording: Path, folder: Path, camera: Path, scale: float = 0.0, most: int = MOST_PIXELS
    ) -> DepthFolder:
        """The depth images in `folder` of the frames of `recording`.

        camera: a file of `load_intrinsics`, whose depth factor holds where `scale` is 0. most:
        pixels of an image. Raises InputError.
        """
        known = load_intrinsics(camera)
        files = files_by_frame(recording, folder, "depth")
        return DepthFolder(
            files, known.camera, known.size, scale or known.metres_per_unit or 0.0, camera, most
        )

    def frames_of(self, count: int) -> int:
        """How many of the first `count` frames have depth."""
        return sum(index < count for index in self.files)

    def read(self, index: int, size: tuple[int, int]) -> Depth | None:
        """The depth of a frame of this width and height; None where it has none.

        Raises InputError for depth of another size, or that the camera is not of.
        """
        path = self.files.get(index)
        if path is None:
            return None
        depth = to_metres(read_depth_pixels(path, self.most_pixels), self.scale)
        height, width = depth.shape
        if (width, height) != size:
            raise InputError(
                f"{path} is {width} x {height} pixels, its image {size[0]} x {size[1]}: depth is "
                "to be registered to the image, pixel by pixel"
            )
        if self.size not in (None, (width, height)):
            raise InputError(
                f"{self.camera_file} is of a camera of {' x '.join(map(str, self.size or ()))} "
                f"pixels, {path} has {width} x {height}"
            )
        return depth
