"""Pipelines for tests; those of equal networks share them, as cameras do."""

from __future__ import annotations

import functools
from typing import Any

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import NETWORK_OPTIONS, Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2.tracker import Tracker
from sam2vss_ros.semantics.networks.network import SegmentationNetwork


def open_pipeline(config: PipelineConfig, **arguments: Any) -> VssPipeline:
    """The pipeline of a config; further arguments are those of VssPipeline."""
    return VssPipeline(shared_perception(config), config, **arguments)


def shared_perception(config: PipelineConfig) -> Perception:
    """The networks of a config, loaded by the first test that needs them."""
    names = (*NETWORK_OPTIONS, "mode")  # which decides whose classes are published
    return _load(PipelineConfig(**{name: getattr(config, name) for name in names}))


def perception_with(network: SegmentationNetwork, config: PipelineConfig) -> Perception:
    """The networks of a config, but for another one in the place of the dense prediction."""
    shared = shared_perception(config)
    return Perception(
        shared._asked,
        shared.config,
        shared.model,
        shared._semantics,
        shared._trunk,
        network,
    )


@functools.lru_cache(maxsize=16)
def _load(config: PipelineConfig) -> Perception:
    return Perception.load(config)


def sam2_tracker(pipeline: VssPipeline) -> Tracker:
    """The tracker of a pipeline whose model is a SAM 2."""
    tracker = pipeline.stream.tracker
    assert isinstance(tracker, Tracker)
    return tracker
