"""Recorded bags with the labels that the node would have published: `sam2vss bag label` and
`sam2vss label`.

The labels of a bag are made while it is copied, or section by section, each into a bag of labels
alone, from which the copy then takes them.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.bag_writer import (
    BagWriter,
    image_message,
    label_message,
    new_bag,
    write_classes,
)
from sam2vss_ros.io.bags import Bag, FrameDecoder, Section
from sam2vss_ros.io.overlay import draw_overlay
from sam2vss_ros.semantics.catalog import ClassCatalog

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

    from sam2vss_ros.pipeline import VssPipeline

Recorded = tuple["Connection", int, bytes]


@dataclass
class Labelling:
    """What became of images. `seconds` is the pipeline's own time."""

    frames: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)

    def merge(self, later: Labelling) -> None:
        """Count the images of another one."""
        self.frames += later.frames
        self.seconds += later.seconds
        self.skipped += later.skipped


@dataclass(frozen=True)
class LabelTopics:
    """What is added to a bag: topics under `namespace`, and what their ids mean.

    Where a class is less sure than `threshold`, the label is `unlabelled`. overlay: whether there
    are pictures, too.
    """

    namespace: str
    overlay: bool
    catalog: ClassCatalog
    unlabelled: int
    threshold: float

    @property
    def names(self) -> list[str]:
        """The topics of what is said of every image."""
        kinds = ["label_image", "overlay"] if self.overlay else ["label_image"]
        return [f"{self.namespace}/{kind}" for kind in kinds]

    @staticmethod
    def of(pipeline: VssPipeline, namespace: str, overlay: bool) -> LabelTopics:
        """Those of a pipeline's answers."""
        config = pipeline.config
        return LabelTopics(
            topic_folder(namespace),
            overlay,
            pipeline.catalog,
            config.unlabelled_id,
            config.min_class_score,
        )


@dataclass(frozen=True)
class LabelPart:
    """The labels of a section's images in a bag of their own, in the order of the images.

    labelled: for each image whether it has labels.
    """

    bag: Path
    labelled: tuple[bool, ...]
    labelling: Labelling


class _PipelineAnswers:
    """Answers of the pipeline to the images of a topic, in order; `labelling` counts them."""

    def __init__(self, pipeline: VssPipeline, bag: Bag, image_topic: str, topics: LabelTopics):
        self.labelling = Labelling()
        self._pipeline, self._bag, self._topics = pipeline, bag, topics
        self._decoder = FrameDecoder(bag, image_topic, pipeline.config.max_image_pixels)

    def __call__(self, recorded: Recorded) -> list[tuple[str, Any]]:
        """Topic and message of what is said of an image; nothing where the node would skip it."""
        connection, time_ns, data = recorded
        result = self.labelling
        try:
            message = self._bag.decode(connection, data)
            frame = self._decoder.frame(message, time_ns)
        except ImageError as error:
            result.skipped[error.reason] += 1
            return []
        start = time.perf_counter()
        answer = self._pipeline.process(frame)
        if answer.out_of_order:
            result.skipped["out of order"] += 1
            return []
        result.seconds += time.perf_counter() - start
        result.frames += 1
        labels = label_message(answer.label_image, message.header)
        messages = [(self._topics.names[0], labels)]
        if self._topics.overlay:
            drawn = draw_overlay(frame.image, answer, self._pipeline.catalog)
            messages.append((self._topics.names[1], image_message(drawn, "rgb8", message.header)))
        return messages


def label_bag(
    pipeline: VssPipeline,
    bag: Bag,
    image_topic: str,
    out: Path,
    storage: str = "mcap",
    namespace: str = "/vss",
    overlay: bool = False,
) -> Labelling:
    """Copy a bag and add the pipeline's answers to the images of one of its topics.

    Added are the topics that the node has under `namespace`: `label_image` under the header of its
    image and recorded at the same time, `overlay` if wanted, and latched `class_catalog` and
    `label_info`. Images that the node would skip are counted by reason.

    Raises InputError for a damaged bag or one of ROS 1, for topics that the bag has already and an
    `out` that exists or cannot be written.
    """
    check_label_topics(bag, namespace)
    topics = LabelTopics.of(pipeline, namespace, overlay)
    answers = _PipelineAnswers(pipeline, bag, image_topic, topics)
    with tqdm(total=bag.topics[image_topic].count, unit="frame", desc=out.name) as progress:

        def answer(copy: BagWriter, recorded: Recorded) -> None:
            progress.update()
            for topic, message in answers(recorded):
                copy.write(topic, message, recorded[1])

        with new_bag(out, storage) as copy:
            _copy(bag, image_topic, copy, topics, answer)
            check_labelled(bag, image_topic, answers.labelling)
    return answers.labelling


def label_section(
    pipeline: VssPipeline,
    bag: Bag,
    image_topic: str,
    section: Section | None,
    out: Path,
    topics: LabelTopics,
    tick: Callable[[], None],
) -> LabelPart:
    """Write the pipeline's answers to the images of a section alone, without its warm-up.

    `tick` is called after every image. Raises InputError for a damaged bag and an `out` that exists
    or cannot be written.
    """
    pipeline.reset()
    answers = _PipelineAnswers(pipeline, bag, image_topic, topics)
    images = bag.section(image_topic, section)
    for _ in range(section.warm_up if section else 0):
        answers(next(images))
    answers.labelling = Labelling()
    labelled: list[bool] = []
    with new_bag(out, "mcap", packed=True) as part:
        write_classes(part, topics.namespace, topics.catalog, topics.unlabelled, 0)
        places = itertools.count()  # for times: those of recording may be equal, or not rise
        for recorded in images:
            messages = answers(recorded)
            for topic, message in messages:
                part.write(topic, message, next(places))
            labelled.append(bool(messages))
            tick()
    return LabelPart(out, tuple(labelled), answers.labelling)


def join_labels(
    bag: Bag,
    image_topic: str,
    parts: Sequence[LabelPart],
    out: Path,
    storage: str,
    topics: LabelTopics,
) -> Labelling:
    """Copy a bag and add the labels that all its sections have, in their order, as `label_bag`."""
    whole = Labelling()
    for part in parts:
        whole.merge(part.labelling)
    check_labelled(bag, image_topic, whole)
    messages = _messages_by_image(parts, topics)

    def answer(copy: BagWriter, recorded: Recorded) -> None:
        for connection, _, data in next(messages):
            copy.add(connection)
            copy.copy(connection, recorded[1], data)

    with new_bag(out, storage) as copy:
        _copy(bag, image_topic, copy, topics, answer)
    return whole


def check_label_topics(bag: Bag, namespace: str) -> None:
    """Raise InputError where labels cannot be added to a bag."""
    if bag.is_ros1:
        raise InputError(f"{bag.path} is of ROS 1: make a rosbag2 of it with rosbags-convert")
    folder = topic_folder(namespace)
    for name in ("label_image", "overlay", "class_catalog", "label_info"):
        if f"{folder}/{name}" in bag.topics:
            raise InputError(f"{bag.path} has a topic {folder}/{name}: give another --namespace")


def check_labelled(bag: Bag, image_topic: str, labelling: Labelling) -> None:
    """Raise InputError where no image has labels."""
    if labelling.frames == 0:
        raise InputError(f"{bag.path}, topic {image_topic}: no image can be used")


def topic_folder(namespace: str) -> str:
    """A namespace with one slash before it and none behind."""
    return f"/{namespace.strip('/')}"


def _copy(
    bag: Bag,
    image_topic: str,
    copy: BagWriter,
    topics: LabelTopics,
    answer: Callable[[BagWriter, Recorded], None],
) -> None:
    """All messages of a bag as they are, and behind each image what `answer` writes of it."""
    for connection in bag.connections:
        copy.add(connection)
    for position, recorded in enumerate(bag.messages()):
        if position == 0:
            write_classes(
                copy,
                topics.namespace,
                topics.catalog,
                topics.unlabelled,
                recorded[1],
                topics.threshold,
            )
        copy.copy(*recorded)
        if recorded[0].topic == image_topic:
            answer(copy, recorded)


def _messages_by_image(parts: Sequence[LabelPart], topics: LabelTopics) -> Iterator[list[Any]]:
    """For every image the messages that are said of it."""
    for part in parts:
        coming = Bag(part.bag).messages(*topics.names)
        for labelled in part.labelled:
            yield [next(coming) for _ in topics.names] if labelled else []
