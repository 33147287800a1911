"""What a variant of the pipeline is run with: its labeller, and the files of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sam2vss_ros.commands.arguments import build_pipeline
from sam2vss_ros.commands.variants import PAPER_REFINE, Options
from sam2vss_ros.config import PipelineConfig

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sam2vss_ros.evaluation.evaluate import Labeller
    from sam2vss_ros.pipeline import VssPipeline


@contextmanager
def open_labeller(options: Options) -> Iterator[tuple[Labeller, PipelineConfig]]:
    """The labeller that a variant names, and the options it runs with."""
    from sam2vss_ros.evaluation.evaluate import PipelineLabeller
    from sam2vss_ros.evaluation.paper import PaperRefiner

    with closing(build_pipeline(pipeline_part(options))) as pipeline:
        if options.get("mode") == PAPER_REFINE:
            masklets = cast(int, options.get("max_objects", 0))
            refiner = PaperRefiner(pipeline.perception, pipeline.config, masklets)
            yield refiner, refiner.config
        else:
            yield PipelineLabeller(pipeline), pipeline.config


def pipeline_part(options: Options) -> Options:
    """The options as the pipeline takes them: for it, the paper's refiner is in mode refine."""
    return {**options, "mode": "refine"} if options.get("mode") == PAPER_REFINE else options


def weights_of(config: PipelineConfig) -> list[Path]:
    """The files and folders that a variant's weights come from, those on this machine."""
    from sam2vss_ros.sam2.cards import model_card
    from sam2vss_ros.sam2.weights import find_weights
    from sam2vss_ros.semantics.model import EMBEDDED

    card = model_card(config.model)
    model = Path(config.checkpoint) if config.checkpoint else find_weights(card)
    semantics = EMBEDDED if config.semantics == "street" else Path(config.semantics)
    network = None if config.network == "head" else Path(config.network).expanduser()
    paths = (card.model_file, model, semantics, network)
    return [path for path in paths if path is not None and path.exists()]


@dataclass(frozen=True)
class LabellerTools:
    """A variant's labeller, for workers; `options` are pairs of names and values."""

    options: tuple[tuple[str, object], ...]

    def open(self) -> AbstractContextManager[tuple[Labeller, PipelineConfig]]:
        """Load its networks."""
        return open_labeller(dict(self.options))


@dataclass(frozen=True)
class PipelineTools:
    """A pipeline, for workers; `options` are pairs of names and values."""

    options: tuple[tuple[str, object], ...]

    def open(self) -> AbstractContextManager[VssPipeline]:
        """Load its networks."""
        return closing(build_pipeline(dict(self.options)))
