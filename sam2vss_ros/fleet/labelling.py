"""Tasks of `sam2vss label`: label images of a stretch, and the labelled copy of a bag."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.errors import InputError
from sam2vss_ros.fleet.run import Executor, Results, key_of, run_tasks
from sam2vss_ros.fleet.stretches import Stretch, name_of
from sam2vss_ros.fleet.tasks import Task, Tick, Tools
from sam2vss_ros.io.bag_labels import (
    Labelling,
    LabelPart,
    LabelTopics,
    join_labels,
    label_section,
)
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.pipeline import VssPipeline

WORK = ".sam2vss"
"""The folder of what is done, in that of the labelled bags."""


@dataclass(frozen=True)
class LabelStretch:
    """A stretch's labels, written into a bag in the folder `parts`. tools: open a pipeline."""

    stretch: Stretch
    tools: Tools
    key: str
    parts: Path
    namespace: str
    overlay: bool

    @property
    def title(self) -> str:
        """See Task."""
        return self.stretch.title

    @property
    def frames(self) -> int:
        """See Task."""
        return self.stretch.frames

    def run(self, tools: VssPipeline, tick: Tick) -> tuple[LabelPart, LabelTopics]:
        """See Task. Done twice, it leaves two bags, and one of them is nobody's."""
        stretch, topics = self.stretch, LabelTopics.of(tools, self.namespace, self.overlay)
        out = self.parts / f"{stretch.number}-{secrets.token_hex(4)}"
        bag = Bag(stretch.bag)
        part = label_section(tools, bag, stretch.topic, stretch.section, out, topics, tick)
        return part, topics


@dataclass(frozen=True)
class JoinLabels:
    """The labelled copy of a bag, of the labels of all its stretches, in a folder beside them."""

    stretch: Stretch
    key: str
    parts: Path
    storage: str
    made: tuple[LabelPart, ...]
    topics: LabelTopics | None
    tools: None = None
    frames: int = 0

    @property
    def title(self) -> str:
        """See Task."""
        return self.stretch.bag.name

    def run(self, tools: None, tick: Tick) -> tuple[Path, Labelling]:
        """See Task. The copy does not lie where it belongs yet: it may be made twice."""
        assert self.topics is not None
        bag = self.stretch.bag
        out = self.parts / secrets.token_hex(4) / name_of(bag)
        topic = self.stretch.topic
        return out, join_labels(Bag(bag), topic, self.made, out, self.storage, self.topics)


class BagLabels:
    """What becomes of one bag: labels of its stretches, then its copy, which is moved to `out`."""

    def __init__(
        self,
        stretches: Sequence[Stretch],
        tools: Tools,
        facts: Mapping[str, object],
        folder: Path,
        namespace: str,
        overlay: bool,
        storage: str,
    ) -> None:
        bag = stretches[0].bag
        self.out = folder / name_of(bag)
        about = {**facts, "stretches": stretches, "namespace": namespace, "overlay": overlay}
        self._parts = folder / WORK / key_of(about)
        self._join = JoinLabels(
            stretches[0], key_of({**about, "storage": storage}), self._parts, storage, (), None
        )
        self._labels = [
            LabelStretch(s, tools, key_of({**about, "stretch": s}), self._parts, namespace, overlay)
            for s in stretches
        ]

    @property
    def keys(self) -> list[str]:
        """Those of all its tasks."""
        return [*(task.key for task in self._labels), self._join.key]

    def tasks(self, results: Results) -> list[Task]:
        """What is to be done first; nothing where it was done by an earlier run.

        Raises InputError where a bag lies at `out` that was not made in this way.
        """
        if self._join in results and (self.out.exists() or self._place(results)):
            return []
        if not self.out.exists():
            return self._begin_again(results)
        raise InputError(
            f"out: {self.out} exists already, and was not made by this command with these options "
            "of this bag; bags are not overwritten"
        )

    def after(self, task: Task, results: Results) -> list[Task]:
        """What is to be done when one of these tasks has ended."""
        if task.key == self._join.key:
            if not self._place(results):
                raise InputError(
                    f"out: {self.out.parent} is not the same folder here and for the workers: it "
                    "has to be one that all machines share"
                )
        elif task in self._labels and all(label in results for label in self._labels):
            made = [results.load(label) for label in self._labels]
            parts, topics = tuple(part for part, _ in made), made[0][1]
            join = self._join
            return [JoinLabels(join.stretch, join.key, join.parts, join.storage, parts, topics)]
        return []

    def labelling(self, results: Results) -> Labelling | None:
        """What became of its images; None where it is not done."""
        return results.load(self._join)[1] if self._join in results else None

    def _place(self, results: Results) -> bool:
        """Move the copy to where it belongs; whether it was there."""
        made, _ = results.load(self._join)
        if not made.exists():
            return False
        made.rename(self.out)
        shutil.rmtree(self._parts)
        for task in self._labels:
            results.forget(task)
        return True

    def _begin_again(self, results: Results) -> list[Task]:
        """The tasks of the stretches; the results of those whose labels are gone do not count."""
        results.forget(self._join)
        for task in self._labels:
            if task in results and not results.load(task)[0].bag.exists():
                results.forget(task)
        return list(self._labels)


def label_bags(
    bags: Sequence[BagLabels], executor: Executor, folder: Path
) -> tuple[Labelling, dict[str, str]]:
    """Label bags into `folder`; what is done already is not done again.

    Returns what became of the images of all bags, and why bags failed, by what failed.
    """
    results = Results(folder / WORK)
    tasks = [task for bag in bags for task in bag.tasks(results)]
    owners = {key: bag for bag in bags for key in bag.keys}
    failures = run_tasks(
        tasks, executor, results, "label", lambda task: owners[task.key].after(task, results)
    )
    whole = Labelling()
    for bag in bags:
        if labelling := bag.labelling(results):
            whole.merge(labelling)
    return whole, failures
