"""The networks look at the next frames while the objects of this one are followed.

What they say of a frame does not depend on the frames before it, so the answers are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.stages.features import Looked
from sam2vss_ros.types import Frame

AHEAD = 2
"""Frames: where the next one is carried, the networks have time for the one after it."""


def looking_ahead(
    pipeline: VssPipeline, frames: Iterable[Frame]
) -> Generator[tuple[Frame, Looked], None, None]:
    """Each of the frames, with what `VssPipeline.process` is to take as `looked`.

    A second thread looks at the next frames, `AHEAD`, from the moment that one is handed out.
    Raises what `frames` raises, once those before have been handed out.
    """
    with ThreadPoolExecutor(1, "look") as pool:
        waiting: deque[tuple[Frame, Looked]] = deque()
        try:
            for frame in frames:
                waiting.append((frame, pool.submit(pipeline.look, frame).result))
                if len(waiting) > AHEAD:
                    yield waiting.popleft()
        except Exception:
            yield from waiting
            raise
        yield from waiting
