"""The small SAM 2 of `test/assets`, loaded as users load their own: by its YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest
from sam2.modeling.sam2_base import SAM2Base

from sam2vss_ros.sam2.build import build_network
from sam2vss_ros.sam2.cards import model_card

SMALL_SAM2 = str(Path(__file__).resolve().parents[1] / "assets/small_sam2.yaml")
SMALL_WEIGHTS = Path(SMALL_SAM2).with_suffix(".safetensors")

BOTH_MODELS = ["mobile", pytest.param(SMALL_SAM2, id="small_sam2")]
"""What tests of the whole pipeline run with: the model by affinity, and one that is a SAM 2."""


def untrained_small_sam2(image_size: int = 256) -> SAM2Base:
    """The network with random weights."""
    return build_network(model_card(SMALL_SAM2), image_size)
