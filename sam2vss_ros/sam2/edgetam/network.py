"""The network of EdgeTAM, from the `sam2` package's classes, a RepViT and a perceiver.

Sizes and settings are those of `sam2/configs/edgetam.yaml` in facebookresearch/EdgeTAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2vss_ros.sam2.edgetam.perceiver import SIDE, WHOLE, WIDTH, SpatialPerceiver
from sam2vss_ros.sam2.edgetam.repvit import RepViT
from sam2vss_ros.sam2.norms import use_channel_norms

CHANNELS = 256
ROPE_THETA = 10000.0


@dataclass(frozen=True)
class EdgeTamSettings:
    """How a checkpoint was trained; the defaults are those of Meta's.

    native_size: side of its images in pixels. pointer_times: object pointers carry the time since
    they were seen. absence: memories of absent objects are marked.
    """

    native_size: int = 1024
    pointer_times: bool = False
    absence: bool = False


class EdgeTam(SAM2Base):
    """SAM2Base whose memories are squeezed into latents.

    query_rope, memory_rope: (h * w, 128) and (LATENTS, 128) complex, the rotations of the image's
    tokens and of a memory's latents, of which those without a place are not rotated. memory_pos:
    (LATENTS, 64), their position encoding.

    Image tokens are counted in steps of the native size's, whatever the size of the image, since
    the latents' own count, 0 to 15, is the same for all sizes: the network has learned which goes
    with which. At the native size this is what Meta's code does.
    """

    query_rope: Tensor
    memory_rope: Tensor
    memory_pos: Tensor

    def __init__(self, native_size: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.spatial_perceiver = SpatialPerceiver()
        self.native_size = native_size
        grid = torch.arange(self.image_size // 16) * (native_size / self.image_size)
        latents = _rotations(torch.arange(SIDE).float())
        none = torch.ones(WHOLE, latents.shape[1], dtype=latents.dtype)
        self.register_buffer("query_rope", _rotations(grid), persistent=False)
        self.register_buffer("memory_rope", torch.cat([none, latents]), persistent=False)
        self.register_buffer("memory_pos", self.spatial_perceiver.positions(), persistent=False)

    def squeeze(self, memories: Tensor) -> Tensor:
        """(B, 64, h, w) memories -> (B, LATENTS, 64)."""
        pos = self.memory_encoder.position_encoding(memories[:1])
        latents: Tensor = self.spatial_perceiver(memories, pos)
        return latents


def _rotations(places: Tensor) -> Tensor:
    """RoPE on a square: (n^2, CHANNELS / 2) complex from the (n,) places of a side, as upstream's
    `compute_axial_cis` for whole numbers."""
    steps = torch.arange(0, CHANNELS, 4) / CHANNELS
    angles = places[:, None] * ROPE_THETA**-steps
    n = len(places)
    columns, rows = angles.expand(n, n, -1), angles[:, None].expand(n, n, -1)
    both = torch.cat([columns, rows], -1).flatten(0, 1)
    return torch.polar(torch.ones_like(both), both)


def build_edgetam(image_size: int, settings: EdgeTamSettings | None = None) -> EdgeTam:
    """Build the network with random weights for square images of `image_size` pixels.

    As with Meta's SAM 2.1, masks from clicks are binarised before they are remembered, and an
    unstable single mask is replaced by the best of three.
    """
    settings = settings or EdgeTamSettings()
    trunk = RepViT()
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=CHANNELS),
        d_model=CHANNELS,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    network = EdgeTam(
        settings.native_size,
        image_encoder=ImageEncoder(trunk=trunk, neck=neck, scalp=1),
        memory_attention=_memory_attention(),
        memory_encoder=MemoryEncoder(
            out_dim=WIDTH,
            mask_downsampler=MaskDownSampler(kernel_size=3, stride=2, padding=1),
            fuser=Fuser(CXBlock(dim=CHANNELS), num_layers=2),
            position_encoding=PositionEmbeddingSine(num_pos_feats=WIDTH),
        ),
        image_size=image_size,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        binarize_mask_from_pts_for_mem_enc=True,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=settings.absence,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=settings.pointer_times,
        proj_tpos_enc_in_obj_ptrs=settings.pointer_times,
        use_signed_tpos_enc_to_obj_ptrs=settings.pointer_times,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    )
    use_channel_norms(network)
    return network


def _memory_attention() -> MemoryAttention:
    def rope_attention(**inputs: int) -> RoPEAttention:
        # Its own table of rotations is not used, so it is made as small as can be.
        return RoPEAttention(
            embedding_dim=CHANNELS, num_heads=1, downsample_rate=1, feat_sizes=(1, 1), **inputs
        )

    layer = MemoryAttentionLayer(
        activation="relu",
        d_model=CHANNELS,
        dim_feedforward=2048,
        dropout=0.1,
        self_attention=rope_attention(),
        cross_attention=rope_attention(kv_in_dim=WIDTH),
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
    )
    return MemoryAttention(d_model=CHANNELS, pos_enc_at_input=True, layer=layer, num_layers=2)
