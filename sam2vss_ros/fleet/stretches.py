"""Bags by their names or patterns, and the stretches that they are cut into."""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.io.bags import Bag, Section

log = logging.getLogger(__name__)

ENDS = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")


@dataclass(frozen=True)
class Stretch:
    """What one task works on: images of `topic` on end, the `number`th of `of` parts of a bag.

    section: None for a whole bag. frames: images, without those of the warm-up. identity: path,
    sizes and times of the bag's files, by which another recording of its name is known.
    """

    bag: Path
    topic: str
    number: int
    of: int
    section: Section | None
    frames: int
    identity: str

    @property
    def title(self) -> str:
        """For people."""
        part = f", stretch {self.number + 1} of {self.of}" if self.of > 1 else ""
        return f"{self.bag.name}{part}"


def find_bags(patterns: Sequence[str]) -> list[Path]:
    """The bags that names and patterns (`bags/*`) mean, sorted, each once, by their full paths.

    What a pattern meets and is neither a folder with files of a bag nor such a file is left out.
    Raises InputError where one means nothing and where two bags have one name.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path))))
        bags = [path] if path.exists() else [match for match in matches if _is_bag(match)]
        if not bags:
            raise InputError(f"bags: {pattern} names no bag")
        if left_out := [match.name for match in matches if match not in bags]:
            log.warning("bags: %s: no bags, left out: %s", pattern, few(left_out))
        found |= dict.fromkeys(bag.resolve() for bag in bags)
    by_name: dict[str, Path] = {}
    for bag in sorted(found):
        if (other := by_name.setdefault(name_of(bag), bag)) != bag:
            raise InputError(f"bags: {other} and {bag} have one name: rename one of them")
    return list(by_name.values())


def name_of(bag: Path) -> str:
    """The name of a bag's folder, or of its file without the ends that files of bags have."""
    ends = sorted(ENDS, key=len, reverse=True)
    end = "" if bag.is_dir() else next((e for e in ends if bag.name.endswith(e)), "")
    return bag.name.removesuffix(end)


def cut(bag: Bag, topic: str, seconds: float, warm_up: float) -> list[Stretch]:
    """The stretches of a bag's topic, which begin every `seconds` of recording; 0: the whole bag.

    `warm_up` are the seconds of images that the pipeline sees before each but the first, so that it
    knows the objects that are there; they bring no results.
    """
    identity = _identity(bag.path)
    if not seconds:
        count = bag.topics[topic].count
        return [Stretch(bag.path, topic, 0, 1, None, count, identity)]
    times = np.array([time for _, time, _ in bag.messages(topic)], np.int64)
    sections = _sections(times, round(seconds * 1e9), round(warm_up * 1e9))
    return [
        Stretch(bag.path, topic, i, len(sections), section, section.count, identity)
        for i, section in enumerate(sections)
    ]


def _sections(times: npt.NDArray[np.int64], length_ns: int, warm_up_ns: int) -> list[Section]:
    """The sections of messages with these times of recording, in the order in which they are read.

    A section is read from a time on, so it may begin only where all before is older than all after.
    """
    highest, lowest = np.maximum.accumulate(times), np.minimum.accumulate(times[::-1])[::-1]
    free = np.flatnonzero(np.append(True, highest[:-1] < lowest[1:]))
    places = (lowest[free] - lowest[0]) // length_ns
    begins = free[np.unique(places, return_index=True)[1]]
    leads = free[np.searchsorted(lowest[free], lowest[begins] - warm_up_ns)]
    ends = np.append(begins[1:], len(times))
    return [
        Section(int(lowest[lead]) if lead else 0, lead, begin - lead, end - begin)
        for lead, begin, end in zip(leads.tolist(), begins.tolist(), ends.tolist(), strict=True)
    ]


def _is_bag(path: Path) -> bool:
    files = path.iterdir() if path.is_dir() else [path]
    return any(file.name.endswith(ENDS) for file in files)


def _identity(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return f"{path.resolve()} {facts}"
