"""Files that belong to the frames of a recording, such as its depth: which is whose."""

from __future__ import annotations

from pathlib import Path

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_folders import files_by_number, images_by_stem, join, list_images


def files_by_frame(recording: Path, folder: Path, option: str) -> dict[int, Path]:
    """The images of `folder` by the index of their frame, counted from 0.

    Beside a folder of images files are joined by their names, `a_000012.png` to `a_000012.jpg`;
    beside a video by the number at the end of their names, which is the index. Raises InputError,
    which names the option, where none belongs to a frame.
    """
    if not recording.is_dir():
        return files_by_number(folder)
    frames = list_images(recording)
    stems = {path.stem: path for path in frames}
    joined = join({f"{recording}": stems, f"{folder}": images_by_stem(folder)})
    index_of = {path: index for index, path in enumerate(frames)}
    beside = joined[f"{folder}"]
    found = {
        index_of[path]: beside[name]
        for name, path in joined[f"{recording}"].items()
        if name in beside
    }
    if not found:
        raise InputError(
            f"{option}: no file in {folder} has the name of a frame in {recording}: it has "
            f"{next(iter(beside.values())).name}, the frames are like {frames[0].name}"
        )
    return found
