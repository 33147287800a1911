"""Packed convolutions compute what they were made of."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from sam2vss_ros import packing
from sam2vss_ros.affinity.model import load_affinity_model
from sam2vss_ros.packing import SIZES, Clipped, PackedConvolution, can_pack, pack
from sam2vss_ros.sam2.functional import image_tensor
from sam2vss_ros.semantics.model import load_semantics
from sam2vss_ros.training.procedural import make_clip

CPU = torch.device("cpu")

needs_packing = pytest.mark.skipif(
    not can_pack(torch.zeros(1)),
    reason="convolutions are packed on x86-64 processors with oneDNN alone",
)


def small_network() -> nn.Module:
    """Each kind of convolution that the networks have."""
    torch.manual_seed(3)
    network = nn.Sequential(
        Clipped(3, 16, 3, stride=2, padding=1),
        Clipped(16, 16, 3, padding=1, groups=16),
        nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1, bias=False)),
        nn.Conv2d(24, 5, 1),
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(6)  # so that something is clipped
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore


def images(*shape: int) -> Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


@needs_packing
def test_every_convolution_is_packed() -> None:
    network = small_network()
    pack(network)
    found = [m for m in network.modules() if isinstance(m, PackedConvolution)]
    assert len(found) == 5
    assert not any(isinstance(m, nn.Conv2d | nn.ReLU) for m in network.modules())
    assert sum(w.numel() for w in network.parameters()) == sum(
        w.numel() for w in small_network().parameters()
    )


@needs_packing
def test_same_maps_for_more_sizes_than_are_kept() -> None:
    plain, packed = small_network(), small_network()
    pack(packed)
    sizes = [(1, 3, 8 * n, 16 * n) for n in range(1, SIZES + 3)] + [(2, 3, 24, 40), (1, 3, 1, 1)]
    with torch.inference_mode():
        for size in (*sizes, *sizes[:2], *reversed(sizes)):
            x = images(*size)
            torch.testing.assert_close(packed(x), plain(x), atol=1e-3, rtol=1e-4)
    kept = [len(m._packed) for m in packed.modules() if isinstance(m, PackedConvolution)]
    assert kept == [SIZES] * len(kept)


@needs_packing
def test_weights_that_lie_alike_are_kept_once() -> None:
    network = small_network()
    pack(network)
    with torch.inference_mode():
        for size in range(16, 80, 8):
            network(images(1, 3, size, 2 * size))
    packed = [m for m in network.modules() if isinstance(m, PackedConvolution)]
    for module in packed:
        kept = {id(w): w for w in module._packed.values()}.values()
        layouts = [torch.ops.mkldnn._get_mkldnn_serialized_md(w).tolist() for w in kept]
        assert all(a != b for a, b in itertools.combinations(layouts, 2))
    assert any(len(set(map(id, m._packed.values()))) < len(m._packed) for m in packed)


@needs_packing
def test_clipping_is_part_of_the_convolution() -> None:
    network = nn.Sequential(Clipped(3, 16, 3, padding=1)).requires_grad_(False)
    pack(network)
    with torch.inference_mode():
        made = network(50 * images(1, 3, 16, 16))
    assert float(made.min()) == 0 and float(made.max()) == 6


def test_half_precision_is_not_packed() -> None:
    network = small_network().half()
    pack(network)
    assert not any(isinstance(m, PackedConvolution) for m in network.modules())


def test_nothing_changes_where_packing_is_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing.platform, "machine", lambda: "aarch64")
    network = small_network()
    pack(network)
    assert not any(isinstance(m, PackedConvolution) for m in network.modules())


@needs_packing
def test_the_embedded_networks_label_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the type that the processor takes, bfloat16 or float32."""

    def labels() -> Tensor:
        model = load_affinity_model("mobile", device="cpu")
        head = load_semantics("street", CPU, model.trunk_dtype).head
        with torch.inference_mode():
            made = [head(model.encode(x).pyramid[0]).logits.argmax(1) for x in frames]
        return torch.cat(made)

    clip = make_clip(seed=5, frames=3, size=(288, 512))
    frames = [image_tensor(picture, (288, 512), CPU) for picture in clip.frames]
    packed = labels()
    monkeypatch.setattr(packing, "can_pack", lambda weight: False)
    same = (labels() == packed).float().mean()
    assert float(same) >= 0.999
    assert len(packed.unique()) > 2
