"""SAM 2's stages as functions on tensors, batched over objects; inference and training share them.

Upstream binds the same stages to a dictionary of past frames (`SAM2Base.track_step`). Here the
caller owns the memory, so that objects of one batch may be of different age.

Shapes: B objects, C channels of the image features (256; nano 64), D channels of the memory (64;
nano 32), S side of the square input, h = w = S / 16, masks at stride 4 as logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttention
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor

# ImageNet's statistics, those of every SAM 2 (upstream sam2/utils/misc.py).
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder says of B images.

    pyramid: three (B, C, ., .) maps of the feature pyramid, strides 4, 8 and 16, before SAM's
    projections; semantics read these. high_res: the decoder's (B, C/8, S/4, S/4) and
    (B, C/4, S/8, S/8). top, top_pos: (B, C, h, w) features and position code at stride 16.
    """

    pyramid: tuple[Tensor, Tensor, Tensor]
    high_res: tuple[Tensor, Tensor]
    top: Tensor
    top_pos: Tensor

    def select(self, index: Tensor) -> ImageFeatures:
        """The features of images `index`, (N,) int64: one entry per object of a batch."""
        a, b, c = self.pyramid
        return ImageFeatures(
            (a[index], b[index], c[index]),
            (self.high_res[0][index], self.high_res[1][index]),
            self.top[index],
            self.top_pos[index],
        )

    def expand(self, count: int) -> ImageFeatures:
        """The features of one image as seen by `count` objects, without a copy."""

        def view(x: Tensor) -> Tensor:
            return x.expand(count, -1, -1, -1)

        a, b, c = self.pyramid
        return ImageFeatures(
            (view(a), view(b), view(c)),
            (view(self.high_res[0]), view(self.high_res[1])),
            view(self.top),
            view(self.top_pos),
        )


@dataclass(frozen=True)
class Decoded:
    """What the mask decoder says of B prompts.

    masks: (B, M, S/4, S/4) logits, token 0 first then the three of multimask output.
    ious: (B, M) predicted IoU. tokens: (B, M, C) output tokens. score: (B, 1) object score logit.
    """

    masks: Tensor
    ious: Tensor
    tokens: Tensor
    score: Tensor


def image_tensor(image: npt.NDArray[np.uint8], size: int, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, size, size) float32, squashed and normalised like upstream."""
    if image.shape[:2] != (size, size):
        shrinks = image.shape[0] > size and image.shape[1] > size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), np.uint8)
    return normalise(torch.from_numpy(image).to(device)[None].permute(0, 3, 1, 2))


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) of 0..255 -> float32 with ImageNet's mean 0 and deviation 1."""
    mean = images.new_tensor(PIXEL_MEAN, dtype=torch.float32).view(3, 1, 1) * 255
    std = images.new_tensor(PIXEL_STD, dtype=torch.float32).view(3, 1, 1) * 255
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
    """The decoder's input for an object that has no memory yet, (B, C, h, w)."""
    return features.top + network.no_mem_embed.view(1, -1, 1, 1)


def attend_to_memory(
    network: SAM2Base,
    features: ImageFeatures,
    memories: Tensor,
    memory_times: Tensor,
    pointers: Tensor,
    pointer_ages: Tensor,
) -> Tensor:
    """Condition the image on what is remembered of each object; the decoder's input (B, C, h, w).

    features: those of one image that all objects are looked for in, or of one image per object.
    memories: (B, M, D, h, w). memory_times: (M,) int64, the row of the network's temporal
    encoding: 0 for the previous frame up to num_maskmem - 2, num_maskmem - 1 for the conditioning
    frame. pointers: (B, P, C). pointer_ages: (B, P) float, frames since each pointer.
    Equals upstream's `_prepare_memory_conditioned_features` for one object.
    """
    batch = len(memories)
    _, channels, height, width = features.top.shape
    spatial = memories.flatten(3).permute(1, 3, 0, 2).flatten(0, 1)
    place = network.memory_encoder.position_encoding(memories[:1, 0]).flatten(2).permute(2, 0, 1)
    time = network.maskmem_tpos_enc[memory_times].view(len(memory_times), 1, 1, network.mem_dim)
    spatial_pos = (place[None] + time).flatten(0, 1).expand(-1, batch, -1)

    # A pointer of C channels travels as C / D tokens of the memory's width.
    parts = channels // network.mem_dim
    tokens = pointers.reshape(batch, -1, network.mem_dim).transpose(0, 1)
    ages = pointer_ages / (network.max_obj_ptrs_in_encoder - 1)
    if network.add_tpos_enc_to_obj_ptrs:
        width_of_code = channels if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
        code = get_1d_sine_pe(ages.flatten(), dim=width_of_code).view(*ages.shape, -1)
        pointer_pos = network.obj_ptr_tpos_proj(code.to(pointers.dtype))
    else:
        pointer_pos = pointers.new_zeros(*ages.shape, network.mem_dim)
    pointer_pos = pointer_pos.repeat_interleave(parts, dim=1).transpose(0, 1)

    out = _memory_attention(
        network.memory_attention,
        features.top.flatten(2).transpose(1, 2),
        features.top_pos.flatten(2).transpose(1, 2),
        torch.cat([spatial, tokens]).transpose(0, 1),
        torch.cat([spatial_pos, pointer_pos]).transpose(0, 1),
        len(tokens),
    )
    return out.transpose(1, 2).reshape(batch, channels, height, width)


def _memory_attention(
    attention: MemoryAttention,
    image: Tensor,
    image_pos: Tensor,
    memory: Tensor,
    memory_pos: Tensor,
    pointer_tokens: int,
) -> Tensor:
    """Upstream's `MemoryAttention.forward` on (1 or B, HW, C) images and (B, N, D) memories.

    The first self-attention sees no memory, so it is the same for all objects of one image and
    runs once.
    """
    x = image + 0.1 * image_pos if attention.pos_enc_at_input else image
    for layer in attention.layers:
        x = layer._forward_sa(x, image_pos).expand(len(memory), -1, -1)
        x = layer._forward_ca(x, memory, image_pos, memory_pos, pointer_tokens)
        x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
    normed: Tensor = attention.norm(x)
    return normed


def decode(
    network: SAM2Base,
    pixels: Tensor,
    high_res: tuple[Tensor, Tensor],
    points: tuple[Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
    shared_image: bool = False,
) -> Decoded:
    """Prompt encoder and mask decoder on (B, C, h, w) pixel features; all four mask tokens.

    points: (B, P, 2) pixels of the S x S input and (B, P) labels (1 object, 0 background, 2 and 3
    a box's corners, -1 padding). mask: (B, 1, S/4, S/4) low-resolution mask input. With
    `shared_image` the features are those of one image (1, C, h, w) for all B prompts.
    """
    if points is None:
        # Upstream's padding: SAM 2 was trained to see one empty point where no prompt is given.
        batch = len(pixels) if mask is None else len(mask)
        points = (pixels.new_zeros(batch, 1, 2), pixels.new_full((batch, 1), -1, dtype=torch.int32))
    sparse, dense = network.sam_prompt_encoder(points=points, boxes=None, masks=mask)
    masks, ious, tokens, score = network.sam_mask_decoder.predict_masks(
        image_embeddings=pixels,
        image_pe=network.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=shared_image,
        high_res_features=high_res,
    )
    return Decoded(masks, ious, tokens, score)


def decode_mask_prompt(network: SAM2Base, features: ImageFeatures, masks: Tensor) -> Decoded:
    """Decode (B, 1, S, S) float 0/1 mask prompts on features of B objects, without memory.

    As upstream's `_use_mask_as_output`, which keeps the given mask and only takes the pointer.
    """
    return decode(network, features.top, features.high_res, mask=network.mask_downsample(masks))


def object_pointer(network: SAM2Base, token: Tensor, visible: Tensor) -> Tensor:
    """(B, C) object pointers of (B, C) output tokens; `visible` (B, 1) is 1 or 0."""
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
    """Encode what was seen into memories (B, D, h, w), as upstream's `_encode_new_memory`.

    masks: (B, 1, S, S) logits. visible: (B, 1), 1 where the object is seen, else 0. prompted:
    the masks come from prompts; Meta's models remember those as black and white.
    """
    binary = prompted and network.binarize_mask_from_pts_for_mem_enc
    scaled = (masks > 0).float() if binary else torch.sigmoid(masks)
    scaled = scaled * network.sigmoid_scale_for_mem_enc + network.sigmoid_bias_for_mem_enc
    memory: Tensor = network.memory_encoder(features.top, scaled, skip_mask_sigmoid=True)[
        "vision_features"
    ]
    if network.no_obj_embed_spatial is not None:
        absent = (1 - visible)[..., None, None]
        memory = memory + absent * network.no_obj_embed_spatial[..., None, None]
    return memory


def full_size(masks: Tensor, size: int) -> Tensor:
    """Raise low-resolution mask logits to (B, M, size, size)."""
    return F.interpolate(masks.float(), size=(size, size), mode="bilinear", align_corners=False)


def hide_absent(masks: Tensor, visible: Tensor) -> Tensor:
    """Replace the (B, M, ., .) masks of unseen objects by upstream's NO_OBJ_SCORE."""
    return torch.where(visible[..., None, None] > 0, masks, masks.new_tensor(NO_OBJ_SCORE))


def set_image_size(network: SAM2Base, size: int) -> None:
    """Prepare the prompt encoder for another square input size (a multiple of 32)."""
    network.image_size = size
    network.sam_image_embedding_size = size // network.backbone_stride
    prompts = network.sam_prompt_encoder
    prompts.input_image_size = (size, size)
    prompts.image_embedding_size = (size // 16, size // 16)
    prompts.mask_input_size = (size // 4, size // 4)
