"""Make the network that a model's YAML file describes; its weights are random."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from sam2.modeling.sam.transformer import TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import MLP
from torch import nn

from sam2vss_ros.errors import InputError, brief, reason_of
from sam2vss_ros.sam2.model_files import TARGET, DecoderSizes, read_model_file
from sam2vss_ros.sam2.norms import use_channel_norms

PREDICTOR = {
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}
"""What SAM 2's own video predictor adds to a file (`build_sam2_video_predictor`,
apply_postprocessing): masks from clicks are binarised before they are remembered, and an unstable
single mask is replaced by the best of three. A file that says otherwise is right."""

SUPPORTED = {
    "backbone_stride": 16,
    "use_high_res_features_in_sam": True,
    "use_obj_ptrs_in_encoder": True,
    "pred_obj_scores": True,
    "directly_add_no_mem_embed": True,
    "use_mask_input_as_output_without_sam": True,
    "soft_no_obj_ptr": False,
    "non_overlap_masks_for_mem_enc": False,
    "memory_temporal_stride_for_eval": 1,
}
"""Settings that the engine relies on: those of all of Meta's models."""


def construct(path: Path, image_size: int) -> SAM2Base:
    """The network of a model's YAML file, on the CPU, for square inputs of `image_size` pixels.

    Raises InputError, a ValueError, naming the file and the place in it.
    """
    file = read_model_file(path)
    try:
        network = _made({**PREDICTOR, **file.settings, "image_size": image_size}, "model")
        if not isinstance(network, SAM2Base):
            raise ValueError(f"model: a {type(network).__name__} is no SAM2Base")
        for name, value in SUPPORTED.items():
            if getattr(network, name) != value:
                raise ValueError(f"model.{name}: {getattr(network, name)} is not {value}")
        _size_decoder(network, file.decoder)
    except ValueError as error:
        raise InputError(f"model: {path}: {error}") from error
    use_channel_norms(network)
    return network


def _made(node: Any, place: str) -> Any:
    """What a node of the file stands for: a module, or what it is."""
    if isinstance(node, list):
        return [_made(value, place) for value in node]
    if not isinstance(node, dict):
        return node
    values = {key: _made(value, f"{place}.{key}") for key, value in node.items() if key != TARGET}
    if TARGET not in node:
        return values
    kind = _module_class(node[TARGET], place)
    try:
        return kind(**values)
    except Exception as error:  # whatever upstream's modules make of wrong arguments
        raise ValueError(f"{brief(place)}: {reason_of(error)}") from error


def _module_class(target: str, place: str) -> type[nn.Module]:
    """A module of SAM 2 by its full name, as `read_model_file` lets it through."""
    home, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{brief(place)}: sam2 has no {brief(target)}") from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == home):
        raise ValueError(f"{brief(place)}: {brief(target)} is no module of sam2")
    return kind


def _size_decoder(network: SAM2Base, sizes: DecoderSizes) -> None:
    """Give the mask decoder its sizes, which `SAM2Base` has no arguments for."""
    if sizes == DecoderSizes():
        return
    decoder, channels = network.sam_mask_decoder, network.hidden_dim
    if channels % (2 * sizes.num_heads):  # attention to the image has half the width
        raise ValueError(f"sam2vss.decoder.num_heads: {sizes.num_heads} do not divide {channels}")
    decoder.transformer = TwoWayTransformer(
        depth=2, embedding_dim=channels, num_heads=sizes.num_heads, mlp_dim=sizes.mlp_dim
    )
    decoder.iou_prediction_head = MLP(
        channels,
        sizes.iou_head_hidden_dim,
        decoder.num_mask_tokens,
        3,
        sigmoid_output=network.iou_prediction_use_sigmoid,
    )
