"""SAM 2's stages as functions on tensors, batched over objects.

Upstream ties these stages to a dictionary of past frames (`SAM2Base.track_step`). Here the caller
owns the memory, so that a batch may mix objects of different ages.

Shapes: B objects, C channels of the image features (Meta's 256), D channels of the memory
(Meta's 64), S the side of the square input, h = w = S / 16; masks are logits at stride 4.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.sam2.attention import attend
from sam2vss_ros.sam2.windows import Windows
from sam2vss_ros.transfer import upload

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# ImageNet's statistics, used by every SAM 2 (upstream sam2/utils/misc.py).
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

NO_OBJ_SCORE = -1024.0
"""Upstream's logits of the masks of absent objects."""


@dataclass(frozen=True)
class ImageFeatures:
    """The image encoder's output for B images.

    pyramid: three (B, C, ., .) maps at strides 4, 8 and 16, before SAM's projections; semantics
    use these. high_res: the mask decoder's (B, C/8, S/4, S/4) and (B, C/4, S/8, S/8) inputs.
    top, top_pos: (B, C, h, w) features and their position encoding at stride 16.
    """

    pyramid: tuple[Tensor, Tensor, Tensor]
    high_res: tuple[Tensor, Tensor]
    top: Tensor
    top_pos: Tensor

    def select(self, index: Tensor) -> ImageFeatures:
        """The features of the images `index`, (N,) int64, one for each object of a batch."""
        a, b, c = self.pyramid
        return ImageFeatures(
            (a[index], b[index], c[index]),
            (self.high_res[0][index], self.high_res[1][index]),
            self.top[index],
            self.top_pos[index],
        )


@dataclass(frozen=True)
class Decoded:
    """The mask decoder's output for B prompts.

    masks: (B, M, S/4, S/4) logits, first the single mask (token 0), then the three of multimask
    output; M is 4, or 1 if only the first was asked for. ious: (B, 4) predicted IoU. tokens:
    (B, 4, C) output tokens of the masks. score: (B, 1) object score logits.
    """

    masks: Tensor
    ious: Tensor
    tokens: Tensor
    score: Tensor


def image_tensor(
    image: npt.NDArray[np.uint8], size: int | tuple[int, int], device: torch.device
) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32, squashed and normalised as upstream.

    size: h and w, or the side of a square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] > height and image.shape[1] > width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.asarray(
            cv2.resize(image, (width, height), interpolation=interpolation), np.uint8
        )
    if device.type == "cpu":  # looked up: a third of the time
        pixels = torch.from_numpy(cv2.LUT(image, _normalised_values()))
        return pixels[None].permute(0, 3, 1, 2)
    return normalise(upload(torch.from_numpy(image), device)[None].permute(0, 3, 1, 2))


@functools.cache
def _normalised_values() -> npt.NDArray[np.float32]:
    """(1, 256, 3), what each value of a pixel is normalised to in each channel."""
    values = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    table: npt.NDArray[np.float32] = normalise(values)[0].permute(1, 2, 0).contiguous().numpy()
    return table


def normalise(images: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) values of 0..255 to ImageNet's mean 0 and deviation 1, in float32."""
    mean, std = (
        upload(torch.tensor(values).view(3, 1, 1) * 255, images.device)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (images.float() - mean) / std


def encode_image(network: SAM2Base, images: Tensor) -> ImageFeatures:
    """Run the image encoder on (B, 3, S, S) normalised images."""
    out = network.image_encoder(images)
    fine, middle, top = out["backbone_fpn"]
    decoder = network.sam_mask_decoder
    return ImageFeatures(
        (fine, middle, top),
        (decoder.conv_s0(fine), decoder.conv_s1(middle)),
        top,
        out["vision_pos_enc"][-1],
    )


def without_memory(network: SAM2Base, features: ImageFeatures) -> Tensor:
    """The decoder's input for objects without memory: (B, C, h, w)."""
    return features.top + network.no_mem_embed.view(1, -1, 1, 1)


def attend_to_memory(
    network: SAM2Base,
    features: ImageFeatures,
    memories: Tensor,
    memory_times: Tensor,
    pointers: Tensor,
    pointer_ages: Tensor,
    windows: Windows | None = None,
    memory_positions: Tensor | None = None,
) -> Tensor:
    """Condition the image on each object's memory: the decoder's input, (B, C, h, w).

    features: of one image for all objects, or of one image per object. memories: (B, M, m, D),
    tokens of the M memory frames. memory_times: (B, M) int64, rows of the network's temporal
    encoding: from 0 for the previous frame to num_maskmem - 2, and num_maskmem - 1 for the
    conditioning frame. pointers: (B, P, C). pointer_ages: (B, P) float, the age of each pointer in
    frames. Equals upstream's `_prepare_memory_conditioned_features` for one object.

    With `windows` only the tokens inside them are conditioned, (B, C, side, side), and
    memory_positions, (B, M, m) int64, says where the memory tokens lie in their frames.
    """
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    from sam2vss_ros.sam2.edgetam.network import EdgeTam

    channels, grid = features.top.shape[1], features.top.shape[-1]
    ropes = None
    if isinstance(network, EdgeTam):
        memory_pos, ropes = network.memory_pos, (network.query_rope, network.memory_rope)
    else:
        whole = memories.new_zeros(1, network.mem_dim, grid, grid)
        memory_pos = network.memory_encoder.position_encoding(whole)[0].flatten(1).T
    if memory_positions is not None:
        memory_pos = memory_pos[memory_positions]
    temporal_pos = network.maskmem_tpos_enc[memory_times].view(
        *memory_times.shape, 1, network.mem_dim
    )

    # A pointer of C channels is split into C / D tokens of the memory's width.
    parts = channels // network.mem_dim
    tokens = pointers.reshape(len(pointers), -1, network.mem_dim)
    ages = pointer_ages / (network.max_obj_ptrs_in_encoder - 1)
    if network.add_tpos_enc_to_obj_ptrs:
        pos_dim = channels if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
        sine = get_1d_sine_pe(ages.flatten(), dim=pos_dim).view(*ages.shape, -1)
        pointer_pos = network.obj_ptr_tpos_proj(sine.to(pointers.dtype))
    else:
        pointer_pos = pointers.new_zeros(*ages.shape, network.mem_dim)

    out = attend(
        network.memory_attention,
        features.top.flatten(2).transpose(1, 2),
        features.top_pos.flatten(2).transpose(1, 2),
        (memories, memory_pos + temporal_pos),
        (tokens, pointer_pos.repeat_interleave(parts, dim=1)),
        None if windows is None else windows.tokens(),
        memory_positions,
        ropes,
    )
    side = grid if windows is None else windows.side
    return out.transpose(1, 2).unflatten(2, (side, side))


def decode(
    network: SAM2Base,
    pixels: Tensor,
    high_res: tuple[Tensor, Tensor],
    points: tuple[Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
    windows: Windows | None = None,
    single: bool = False,
) -> Decoded:
    """Run the prompt encoder and the mask decoder on (B, C, h, w) pixel features.

    Gives the masks of all four tokens, or with `single` only that of token 0. points: (B, P, 2)
    pixels of the S x S input and (B, P) labels (1 object, 0 background, 2 and 3 a box's corners,
    -1 padding). mask: (B, 1, S/4, S/4) low-resolution mask input. Features of one image,
    (1, ., ., .), serve all B prompts. With `windows` the features are those inside them, and so
    are the masks, (B, M, 4 * side, 4 * side). Equals upstream's `MaskDecoder.predict_masks`.
    """
    if points is None:
        # As upstream: SAM 2 was trained with one padding point in place of a missing prompt.
        batch = len(pixels) if mask is None else len(mask)
        points = (pixels.new_zeros(batch, 1, 2), pixels.new_full((batch, 1), -1, dtype=torch.int32))
    sparse, dense = network.sam_prompt_encoder(points=points, boxes=None, masks=mask)
    image_pe = network.sam_prompt_encoder.get_dense_pe()
    if windows is not None:
        image_pe, dense = windows.crop(image_pe), windows.crop(dense)

    decoder = network.sam_mask_decoder
    output_tokens = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
    output_tokens += [decoder.iou_token.weight, decoder.mask_tokens.weight]
    tokens = torch.cat([torch.cat(output_tokens).expand(len(sparse), -1, -1), sparse], 1)
    image = pixels + dense
    image_pe = image_pe.expand(len(image), -1, -1, -1)
    tokens_out, image_out = decoder.transformer(image, image_pe, tokens)
    if decoder.pred_obj_scores:
        score = decoder.pred_obj_score_head(tokens_out[:, 0])
        tokens_out = tokens_out[:, 1:]
    else:
        score = 10.0 * tokens_out.new_ones(len(tokens_out), 1)
    mask_tokens = tokens_out[:, 1 : 1 + decoder.num_mask_tokens]

    upscale_1, norm, act_1, upscale_2, act_2 = decoder.output_upscaling
    upscaled = act_1(norm(upscale_1(image_out.transpose(1, 2).view_as(image)) + high_res[1]))
    upscaled = act_2(upscale_2(upscaled) + high_res[0])
    wanted = 1 if single else decoder.num_mask_tokens
    mlps = decoder.output_hypernetworks_mlps
    weights = [mlps[i](mask_tokens[:, i]) for i in range(wanted)]
    masks = (torch.stack(weights, 1) @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return Decoded(masks, decoder.iou_prediction_head(tokens_out[:, 0]), mask_tokens, score)


def decode_mask_prompt(network: SAM2Base, features: ImageFeatures, masks: Tensor) -> Decoded:
    """Decode (B, 1, S, S) float 0/1 mask prompts on one image or on B, without memory.

    As in upstream's `_use_mask_as_output`, which takes only the object pointer from it and keeps
    the given mask.
    """
    return decode(network, features.top, features.high_res, mask=network.mask_downsample(masks))


def object_pointer(network: SAM2Base, token: Tensor, visible: Tensor) -> Tensor:
    """(B, C) object pointers from (B, C) output tokens; `visible` (B, 1) is 1 or 0."""
    pointer = network.obj_ptr_proj(token)
    if network.fixed_no_obj_ptr:
        pointer = visible * pointer
    return pointer + (1 - visible) * network.no_obj_ptr


def encode_memory(
    network: SAM2Base,
    features: ImageFeatures,
    masks: Tensor,
    visible: Tensor,
    prompted: bool = False,
) -> Tensor:
    """Encode objects into memories, (B, D, h, w), as upstream's `_encode_new_memory`.

    features: of one image or of B. masks: (B, 1, S, S) logits. visible: (B, 1), 1 where the object
    is visible, else 0. prompted: the masks come from prompts; Meta's models binarise those.
    """
    image = network.memory_encoder.pix_feat_proj(features.top)
    memories = _fuse_memory(network, image + _mask_features(network, masks, prompted))
    return _mark_absent(network, memories, visible)


def encode_memory_in_windows(
    network: SAM2Base,
    features: ImageFeatures,
    masks: Tensor,
    visible: Tensor,
    windows: Windows,
    prompted: bool = False,
) -> Tensor:
    """`encode_memory` for (B, 1, S/4, S/4) logits that are negative outside `windows`.

    The image, one for all objects, is encoded once without any object; each object then replaces
    the memory inside its window.
    """
    size = network.image_size
    image = network.memory_encoder.pix_feat_proj(features.top)
    no_object = masks.new_full((1, 1, size, size), NO_OBJ_SCORE)
    background = _fuse_memory(network, image + _mask_features(network, no_object))
    mask_crops = full_size(windows.crop(masks), 16 * windows.side)
    crops = windows.crop(image) + _mask_features(network, mask_crops, prompted)
    memories = background.expand(len(masks), -1, -1, -1).clone()
    return _mark_absent(network, windows.paste(_fuse_memory(network, crops), memories), visible)


def memory_tokens(network: SAM2Base, memories: Tensor) -> Tensor:
    """(B, D, h, w) memories as what is kept of them: (B, m, D) tokens.

    m is h * w, with EdgeTAM the number of its latents.
    """
    from sam2vss_ros.sam2.edgetam.network import EdgeTam

    if isinstance(network, EdgeTam):
        return network.squeeze(memories)
    return memories.flatten(2).transpose(1, 2)


def _mask_features(network: SAM2Base, masks: Tensor, prompted: bool = False) -> Tensor:
    """The memory encoder's features of (B, 1, ., .) mask logits: (B, C, . / 16, . / 16)."""
    binary = prompted and network.binarize_mask_from_pts_for_mem_enc
    scaled = (masks > 0).float() if binary else torch.sigmoid(masks)
    bias = scaled.new_full((), network.sigmoid_bias_for_mem_enc)
    scaled = torch.add(bias, scaled, alpha=network.sigmoid_scale_for_mem_enc)
    downsampled: Tensor = network.memory_encoder.mask_downsampler(scaled)
    return downsampled


def _fuse_memory(network: SAM2Base, image_and_masks: Tensor) -> Tensor:
    """Fuse the sum of image and mask features, (B, C, ., .), into memories, (B, D, ., .)."""
    encoder = network.memory_encoder
    memories: Tensor = encoder.out_proj(encoder.fuser(image_and_masks))
    return memories


def _mark_absent(network: SAM2Base, memories: Tensor, visible: Tensor) -> Tensor:
    """Add the embedding of an absent object to (B, D, ., .) memories, if the network has one."""
    if network.no_obj_embed_spatial is None:
        return memories
    absent = (1 - visible)[..., None, None]
    return memories + absent * network.no_obj_embed_spatial[..., None, None]


def full_size(masks: Tensor, size: int) -> Tensor:
    """Upsample mask logits to (B, M, size, size)."""
    return F.interpolate(masks.float(), size=(size, size), mode="bilinear", align_corners=False)


def hide_absent(masks: Tensor, visible: Tensor) -> Tensor:
    """Replace the (B, M, ., .) masks of objects that are not visible by upstream's NO_OBJ_SCORE."""
    return torch.where(visible[..., None, None] > 0, masks, masks.new_full((), NO_OBJ_SCORE))


def set_image_size(network: SAM2Base, size: int) -> None:
    """Set the square input size of the network and its prompt encoder, a multiple of 32 pixels."""
    network.image_size = size
    network.sam_image_embedding_size = size // network.backbone_stride
    prompts = network.sam_prompt_encoder
    prompts.input_image_size = (size, size)
    prompts.image_embedding_size = (size // 16, size // 16)
    prompts.mask_input_size = (size // 4, size // 4)
