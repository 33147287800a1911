"""Tasks of `sam2vss evaluate --bags`, and one evaluation made of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.evaluate import (
    Evaluation,
    Labeller,
    begin_evaluation,
    check_scored,
    score_stream,
)
from sam2vss_ros.evaluation.frame_log import FrameLog, FrameLogger
from sam2vss_ros.fleet.stretches import Stretch
from sam2vss_ros.fleet.tasks import Tick, Tools
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.label_files import LabelRules
from sam2vss_ros.io.labelled_bags import open_bag
from sam2vss_ros.semantics.catalog import ClassCatalog


@dataclass(frozen=True)
class StretchScores:
    """The evaluation of a stretch; `config` is that of the labeller.

    A bag's label images are counted by its first stretch; the others take off those that have an
    image, so that their `labels_unmatched` is negative.
    """

    evaluation: Evaluation
    log: FrameLog
    notes: list[str]
    config: PipelineConfig


@dataclass(frozen=True)
class ScoreStretch:
    """Run a labeller over a stretch and score it. tools: open a labeller and its config."""

    stretch: Stretch
    tools: Tools
    key: str
    variant: str
    label_topic: str
    truth: ClassCatalog
    rules: LabelRules
    flow: bool

    @property
    def title(self) -> str:
        """See Task."""
        return f"{self.variant}: {self.stretch.title}"

    @property
    def frames(self) -> int:
        """See Task."""
        return self.stretch.frames

    def run(self, tools: tuple[Labeller, PipelineConfig], tick: Tick) -> StretchScores:
        """See Task."""
        (labeller, config), stretch = tools, self.stretch
        stream = open_bag(
            stretch.bag, stretch.topic, self.label_topic, None, self.rules, stretch.section
        )
        evaluation = begin_evaluation(labeller, self.truth, self.flow)
        logger = FrameLogger(self.truth, labeller.catalog)
        for result in score_stream(evaluation, labeller, stream):
            logger(result)
            tick()
        if stretch.number:  # what is counted once for a bag is counted by its first stretch
            evaluation.streams = 0
            evaluation.labels_unmatched -= Bag(stretch.bag).topics[self.label_topic].count
        return StretchScores(evaluation, logger.log(), stream.notes(), config)


def merge(
    truth: ClassCatalog,
    scores: Iterable[StretchScores],
    take: Callable[[FrameLog], None] = lambda _: None,
) -> tuple[Evaluation, PipelineConfig, list[str]]:
    """One evaluation of stretches, in their order, with their labeller's config and all notes.

    `take` is given what a report keeps of each stretch. Raises InputError where no frame was
    scored.
    """
    whole: tuple[Evaluation, PipelineConfig] | None = None
    notes: dict[str, None] = {}
    for part in scores:
        take(part.log)
        notes |= dict.fromkeys(part.notes)
        if whole is None:
            whole = part.evaluation, part.config
        else:
            whole[0].merge(part.evaluation)
    if whole is None:
        raise InputError("bags: no stretch could be evaluated")
    evaluation, config = whole
    evaluation.labels_unmatched = max(0, evaluation.labels_unmatched)
    check_scored(evaluation, truth)
    return evaluation, config, list(notes)
