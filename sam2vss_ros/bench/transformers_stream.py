"""The same images and prompts through transformers' video models: a second yardstick.

They know neither our code nor upstream's: transformers wrote the stages anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sam2vss_ros.bench.streams import replaced
from sam2vss_ros.errors import needs_extra
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.edgetam.network import EdgeTam
from sam2vss_ros.sam2.transformers_names import to_transformers
from sam2vss_ros.types import Prompt


class TransformersStream:
    """`Sam2VideoModel` or `EdgeTamVideoModel` with the weights of one of our networks.

    It keeps what it saw of every object on every frame, and every frame. Of EdgeTAM the trunk is
    ours: transformers takes timm's.

    Where transformers differs from Meta's predictor this does as Meta's. Of a mask prompt the
    pointer comes of the single mask, not of the best of three, and the mask is remembered as
    stride 4 leaves it. Where an object is prompted, the memories of the others are not binarised.

    exact_memory: see `UpstreamStream`; of EdgeTAM transformers rounds no memories.
    """

    def __init__(self, network: SAM2Base, exact_memory: bool = False) -> None:
        with needs_extra("networks"):
            from transformers.models.sam2_video.modeling_sam2_video import (
                Sam2VideoInferenceSession,
            )
        self.model = transformers_model(network)
        self.session = Sam2VideoInferenceSession(
            video_height=network.image_size,
            video_width=network.image_size,
            inference_device=network.no_mem_embed.device,
            inference_state_device=network.no_mem_embed.device,
            dtype=torch.float32,
        )
        self._exact_memory = exact_memory
        self._time = 0

    @torch.inference_mode()
    def advance(self, image: Tensor, prompts: Sequence[Prompt] = ()) -> Any:
        """As `Stream.advance`; returns transformers' own output."""
        for prompt in prompts:
            self._add(prompt)
        with self._adapted():
            out = self.model(self.session, frame=image, frame_idx=self._time)
        self.masks = out.pred_masks[:, 0].float()
        self._time += 1
        return out

    def _add(self, prompt: Prompt) -> None:
        obj_id = self.session.get_obj_num()
        index, device = self.session.obj_id_to_idx(obj_id), self.session.inference_device
        self.session.obj_with_new_inputs.append(obj_id)
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask).float()[None, None].to(device)
            self.session.add_mask_inputs(index, self._time, mask)
            return
        points, labels = _points_of(prompt)
        self.session.add_point_inputs(
            index,
            self._time,
            {
                "point_coords": points[None, None].to(device),
                "point_labels": labels[None, None].to(device),
            },
        )

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        model = self.model
        mask = partial(_mask_as_metas, model, model._use_mask_as_output)
        with ExitStack() as changes:
            changes.enter_context(replaced(model, _use_mask_as_output=mask))
            if hasattr(model, "_batch_encode_memories"):
                encode = partial(_encode_one_by_one, model._batch_encode_memories)
                changes.enter_context(replaced(model, _batch_encode_memories=encode))
            if self._exact_memory:
                changes.enter_context(replaced(torch, bfloat16=torch.float32))
            yield

    def held_bytes(self) -> int:
        """Bytes that are kept from frame to frame, without the frames."""
        kept = [x for x in tree_leaves(self.session.output_dict_per_obj) if torch.is_tensor(x)]
        storages = [x.untyped_storage() for x in kept]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def transformers_model(network: SAM2Base) -> Any:
    """transformers' model for the image size of a network, with its weights."""
    with needs_extra("networks"):
        import transformers
    edgetam, size = isinstance(network, EdgeTam), network.image_size
    grids = [[size // stride] * 2 for stride in (4, 8, 16)]
    shared = {
        "image_size": size,
        "prompt_encoder_config": {"image_size": size},
        "memory_attention_rope_feat_sizes": grids[-1],
        "enable_temporal_pos_encoding_for_object_pointers": bool(network.add_tpos_enc_to_obj_ptrs),
        "enable_occlusion_spatial_embedding": network.no_obj_embed_spatial is not None,
    }
    weights = network.state_dict()
    if edgetam:
        vision = transformers.EdgeTamVisionConfig(
            # A small trunk holds the place of the real one.
            backbone_config=transformers.Sam2HieraDetConfig(blocks_per_stage=[1, 1, 1, 1]),
            backbone_feature_sizes=grids,
        )
        model = transformers.EdgeTamVideoModel(
            transformers.EdgeTamVideoConfig(vision_config=vision, **shared)
        )
        model.vision_encoder.backbone = _Trunk(network.image_encoder.trunk)
        attention = model.memory_attention
        # transformers counts in whole steps; others it takes as they are.
        attention.position_ids = attention.position_ids * (network.native_size / size)
        weights = {k: v for k, v in weights.items() if "image_encoder.trunk" not in k}
    else:
        model = transformers.Sam2VideoModel(
            transformers.Sam2VideoConfig(vision_config=_hiera(network, grids), **shared)
        )
    left = model.load_state_dict(to_transformers(weights, edgetam), strict=False)
    missing = [k for k in left.missing_keys if not k.startswith("vision_encoder.backbone.trunk.")]
    assert not missing and not left.unexpected_keys, (missing, left.unexpected_keys)
    return model.to(network.no_mem_embed.device).eval()


def _hiera(network: SAM2Base, grids: list[list[int]]) -> Any:
    """The sizes of a Hiera trunk as transformers states them."""
    import transformers

    trunk = network.image_encoder.trunk
    stages = [end - before for before, end in pairwise([-1, *trunk.stage_ends])]
    widths = list(reversed(trunk.channel_list))
    heads = [trunk.blocks[end].attn.num_heads for end in trunk.stage_ends]
    return transformers.Sam2VisionConfig(
        backbone_config=transformers.Sam2HieraDetConfig(
            hidden_size=widths[0],
            num_attention_heads=heads[0],
            image_size=[network.image_size] * 2,
            blocks_per_stage=stages,
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=heads,
            window_size_per_stage=list(trunk.window_spec),
            window_positional_embedding_background_size=list(
                trunk.window_pos_embed_bkg_spatial_size
            ),
            global_attention_blocks=list(trunk.global_att_blocks),
        ),
        backbone_channel_list=list(trunk.channel_list),
        backbone_feature_sizes=grids,
    )


class _Trunk(nn.Module):
    """A trunk as transformers' wrapper of timm gives its features."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.trunk(images))


def _mask_as_metas(
    model: Any, use_mask_as_output: Any, pixels: Tensor, high_res: list[Tensor], masks: Tensor
) -> Any:
    single = partial(model._single_frame_forward, multimask_output=False)
    with replaced(model, _single_frame_forward=single):
        out = use_mask_as_output(pixels, high_res, masks)
    out.high_res_masks = functional.full_size(out.pred_masks, masks.shape[-1])
    out.object_score_logits = out.object_score_logits.view(-1, 1, 1)  # EdgeTAM's lacks a dimension
    return out


def _encode_one_by_one(
    encode: Any, inference_session: Any, frame_idx: int, **per_object: list[Any]
) -> None:
    for values in zip(*per_object.values(), strict=True):
        one = {name: [value] for name, value in zip(per_object, values, strict=True)}
        encode(inference_session, frame_idx, **one)


def _points_of(prompt: Prompt) -> tuple[Tensor, Tensor]:
    """(P, 2) pixels and (P,) labels; a box is two labelled corners."""
    if prompt.box is not None:
        return torch.tensor(prompt.box, dtype=torch.float32).view(2, 2), torch.tensor([2, 3])
    assert prompt.points is not None and prompt.point_labels is not None
    return torch.from_numpy(prompt.points).float(), torch.from_numpy(prompt.point_labels).long()
