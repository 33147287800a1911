"""nano: a SAM 2 of 1.2 million parameters, built from the `sam2` package's own classes.

It is a stock SAM 2.1 (streaming memory, object pointers, prompt encoder, occlusion score), only
smaller: 64 channels instead of 256, one memory attention layer instead of four, a four-stage Hiera
trunk of width 24 and a slim mask decoder.
"""

from __future__ import annotations

from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import MLP

from sam2vss_ros.sam2.norms import use_channel_norms

NATIVE_SIZE = 256
TRUNK_WIDTH = 24
CHANNELS = 64
MEMORY_CHANNELS = 32


class NanoSam2(SAM2Base):
    """SAM2Base with a mask decoder sized for 64 channels.

    SAM2Base hard-codes the decoder's MLP (2048), heads (8) and IoU head (256); at 64 channels
    these would make up two thirds of the network.
    """

    def _build_sam_heads(self) -> None:
        super()._build_sam_heads()
        decoder = self.sam_mask_decoder
        decoder.transformer = TwoWayTransformer(
            depth=2, embedding_dim=CHANNELS, num_heads=4, mlp_dim=256
        )
        decoder.iou_prediction_head = MLP(
            CHANNELS, 64, decoder.num_mask_tokens, 3, sigmoid_output=True
        )


def build_nano(image_size: int = NATIVE_SIZE) -> SAM2Base:
    """Build the network with random weights for square images of `image_size` pixels.

    Raises ValueError unless `image_size` is a positive multiple of 32.
    """
    if image_size <= 0 or image_size % 32:
        raise ValueError(f"image_size: nano takes a multiple of 32 pixels, not {image_size}")
    trunk = Hiera(
        embed_dim=TRUNK_WIDTH,
        num_heads=1,
        stages=(1, 2, 3, 1),
        global_att_blocks=(5,),
        window_pos_embed_bkg_spatial_size=(7, 7),
        window_spec=(8, 4, 8, 4),
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=CHANNELS),
        d_model=CHANNELS,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    network = NanoSam2(
        image_encoder=ImageEncoder(trunk=trunk, neck=neck, scalp=1),
        memory_attention=_memory_attention(image_size // 16),
        memory_encoder=_memory_encoder(),
        num_maskmem=4,
        max_obj_ptrs_in_encoder=8,
        image_size=image_size,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        multimask_output_for_tracking=False,
        use_multimask_token_for_obj_ptr=False,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
    )
    use_channel_norms(network)
    return network


def _memory_attention(feature_size: int) -> MemoryAttention:
    def rope_attention(**kwargs: object) -> RoPEAttention:
        return RoPEAttention(
            embedding_dim=CHANNELS,
            num_heads=1,
            downsample_rate=1,
            dropout=0.0,
            rope_theta=10000.0,
            feat_sizes=(feature_size, feature_size),
            **kwargs,
        )

    layer = MemoryAttentionLayer(
        activation="relu",
        d_model=CHANNELS,
        dim_feedforward=256,
        dropout=0.0,
        self_attention=rope_attention(),
        cross_attention=rope_attention(rope_k_repeat=True, kv_in_dim=MEMORY_CHANNELS),
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
    )
    return MemoryAttention(d_model=CHANNELS, pos_enc_at_input=True, layer=layer, num_layers=1)


def _memory_encoder() -> MemoryEncoder:
    # A 4x4 stride-4 downsampler takes a third of the arithmetic of the stock 3x3 stride-2 one; with
    # a layer scale of 0.1 instead of 1e-6 the fuser contributes even after a short training.
    return MemoryEncoder(
        in_dim=CHANNELS,
        out_dim=MEMORY_CHANNELS,
        mask_downsampler=MaskDownSampler(embed_dim=CHANNELS, kernel_size=4, stride=4, padding=0),
        fuser=Fuser(CXBlock(dim=CHANNELS, layer_scale_init_value=0.1), num_layers=1),
        position_encoding=PositionEmbeddingSine(num_pos_feats=MEMORY_CHANNELS),
    )
