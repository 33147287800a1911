"""A recording's masks that somebody has drawn: label images whose ids become track ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.frame_files import files_by_frame
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Prompt

NO_OBJECT = 0


@dataclass(frozen=True)
class PromptFolder:
    """Label images by the index of their frame, and the largest id in them."""

    files: dict[int, Path]
    largest: int

    @staticmethod
    def open(recording: Path, folder: Path) -> PromptFolder:
        """The label images in `folder` of the frames of `recording`. Raises InputError."""
        files = files_by_frame(recording, folder, "prompts")
        return PromptFolder(files, max(int(read_labels(path).max()) for path in files.values()))

    def ask(self, pipeline: VssPipeline, index: int, size: tuple[int, int]) -> None:
        """Show a pipeline the objects of its next frame, which has this width and height.

        Raises InputError for masks of another size, and for more than there are places.
        """
        path = self.files.get(index)
        if path is None:
            return
        ids = read_labels(path)
        height, width = ids.shape
        if (width, height) != size:
            raise InputError(
                f"{path} is {width} x {height} pixels, its image {size[0]} x {size[1]}"
            )
        for track_id in np.unique(ids[ids != NO_OBJECT]).tolist():
            try:
                pipeline.add_prompt(Prompt(mask=ids == track_id), track_id)
            except ValueError as error:
                raise InputError(f"{path}: object {track_id}: {error}") from error
