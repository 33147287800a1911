"""Folders of images: which files belong to them, in which order, and which belong together."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.io.image_files import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

Files = dict[str, Path]
"""Files by name: without suffix, and after that of the sub-folder they lie in, `aachen/000012`."""


def natural_order(name: str) -> tuple[tuple[str | int, ...], str]:
    """A key that sorts names by the numbers in them: `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def list_images(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, in natural order. Hidden files are left out.

    Raises InputError where there is none; it names sub-folders that have some.
    """
    images = _images_in(folder)
    if not images:
        below = sorted({path.parent for path in _images_below(folder)})
        if below:
            raise InputError(
                f"{folder} holds no images itself, but its sub-folders do: give one of {few(below)}"
            )
        raise InputError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return images


def images_by_stem(folder: Path, suffix: str = "") -> Files:
    """The images of a folder, or of its sub-folders where none lies in itself, by name.

    suffix: the end of the names, such as `_leftImg8bit` or `.png`, that is no part of them; files
    that end otherwise are left out. Raises InputError where there is none, and for two of one name.
    """
    found = _images_in(folder)
    if not found:
        found = list(_images_below(folder)) or list_images(folder)  # which says why
    elif below := sorted({path.parent.name for path in _images_below(folder)}):
        log.info("%s: images in its sub-folders are left out: %s", folder, few(below))
    files: Files = {}
    for path in found:
        stem = _without(path, suffix)
        if stem is None:
            continue
        name = (path.parent.relative_to(folder) / stem).as_posix()
        if name in files:
            raise InputError(
                f"{files[name]} and {path} have one name but for the suffix: say which by the end "
                f"of its name, such as --image-suffix or --label-suffix {path.suffix}"
            )
        files[name] = path
    if not files:
        raise InputError(
            f"{folder} holds no images whose names end with {suffix}; they end with "
            f"{few(_endings(path.stem for path in found))}"
        )
    return files


def files_by_number(folder: Path, suffix: str = "") -> dict[int, Path]:
    """The images of a folder by the number at the end of their names, `000012.png` or `a_12.png`.

    suffix: as for `images_by_stem`; words that all names end with, as in `000012_mask.png`, are no
    part of them anyway. Raises InputError for a name without a number and for two files with one.
    """
    files: dict[int, Path] = {}
    for name, path in _without_end(images_by_stem(folder, suffix)).items():
        digits = re.search(r"\d+$", name)
        if digits is None:
            raise InputError(
                f"{path}: its name does not end with the number of its frame (what comes after it "
                "can be given as --label-suffix)"
            )
        number = int(digits[0])
        if number in files:
            raise InputError(f"{files[number]} and {path} have one number")
        files[number] = path
    return files


def join(folders: Mapping[str, Files]) -> dict[str, Files]:
    """The files of several folders under common names, as far as they have any.

    Where those of a folder have no name in common with those of the first, sub-folders are no part
    of them, as long as all are different, nor the words that all names of a folder end with:
    `a_01_leftImg8bit` is `a_01`, and `a_01_gtFine_labelIds` too. That is told in the log.
    """
    first, *others = (name for name, files in folders.items() if files)

    def meet(files: Mapping[str, Files]) -> bool:
        return all(files[first].keys() & files[name].keys() for name in others)

    plain = {name: _without_end(files) for name, files in folders.items()}
    for joined in (folders, _regardless_of_folders(folders), plain, _regardless_of_folders(plain)):
        if meet(joined):
            _tell_cuts(folders, joined)
            return dict(joined)
    return dict(folders)


def unjoined(folders: Mapping[Path, Files]) -> str:
    """Why the files of two folders have no name in common, for a message."""
    told = []
    for folder, files in folders.items():
        endings = [ending for ending in _endings(files) if ending]
        example = next(iter(files.values())).relative_to(folder)
        told.append(
            f"{folder} has {example}" + (f" (ends: {few(endings)})" if len(endings) > 1 else "")
        )
    return (
        f"files are joined by their names without suffix; {' and '.join(told)}; what is no part of "
        "the name can be given as --image-suffix and --label-suffix"
    )


def stems_by_stream(stems: Iterable[str]) -> dict[str, list[str]]:
    """The stems of each stream in natural order.

    A stream's name is what its stems have before the first `_`, after the sub-folder they lie in.
    Those without one (`000012`) are together a stream of the sub-folder's name, or `frames`.
    """
    streams: dict[str, list[str]] = {}
    for stem in sorted(stems, key=natural_order):
        folder, slash, name = stem.rpartition("/")
        prefix, underscore, _ = name.partition("_")
        stream = folder + slash + prefix if underscore else folder or "frames"
        streams.setdefault(stream, []).append(stem)
    return streams


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    try:
        return _chosen(folder, (path.name for path in folder.iterdir() if not path.is_dir()))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error


def _images_below(folder: Path) -> Iterator[Path]:
    """The images in sub-folders, folder by folder in natural order; links are followed once."""
    seen = {folder.resolve()}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        fresh = [f for f in folders if not f.startswith(".") and (here / f).resolve() not in seen]
        seen.update((here / f).resolve() for f in fresh)
        folders[:] = sorted(fresh, key=natural_order)
        if here != folder:
            yield from _chosen(here, names)


def _chosen(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those that are images. Hidden ones are not: macOS puts `._a.png` beside `a.png`."""
    images = [
        folder / name
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]
    return sorted(images, key=lambda path: (natural_order(path.stem), path.name))


def _without(path: Path, suffix: str) -> str | None:
    """The file's name without `suffix` in any case, None where it does not end with it."""
    for name in (path.stem, path.name):
        if name.lower().endswith(suffix.lower()) and name != suffix:
            return name[: len(name) - len(suffix)]
    return None


def _endings(names: Iterable[str]) -> list[str]:
    """The different words, such as `_gtFine_labelIds`, that names end with, `` for none."""
    ends = {re.search(r"(_[A-Za-z][A-Za-z0-9]*)*$", name) for name in names}
    return sorted({end[0] for end in ends if end})


def _tell_cuts(folders: Mapping[str, Files], joined: Mapping[str, Files]) -> None:
    """Log by which names files are joined where these are not their own."""
    for folder, files in folders.items():
        if files.keys() != joined[folder].keys():
            own, name = next(iter(files)), next(iter(joined[folder]))
            log.info("%s: files are joined by other names than theirs: %s is %s", folder, own, name)


def _without_end(files: Files) -> Files:
    """The files by their names without the words that all of them end with."""
    endings = _endings(files)
    if len(endings) != 1 or not endings[0]:
        return files
    return {name.removesuffix(endings[0]): path for name, path in files.items()}


def _regardless_of_folders(folders: Mapping[str, Files]) -> dict[str, Files]:
    """The files by the longest name, sub-folders included, that any folder has for them.

    As they are where a folder has two of one name.
    """
    longest: dict[str, str] = {}
    for files in folders.values():
        if len({_bare(name) for name in files}) < len(files):
            return dict(folders)
        for name in files:
            longest[_bare(name)] = max(longest.get(_bare(name), ""), name, key=len)
    return {
        folder: {longest[_bare(name)]: path for name, path in files.items()}
        for folder, files in folders.items()
    }


def _bare(name: str) -> str:
    return name.rpartition("/")[2]
