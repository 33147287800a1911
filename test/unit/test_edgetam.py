"""EdgeTAM: its trunk against timm, the checkpoints that people have, and the engine's presets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sam2vss_ros.bench import speed
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, load_model, untrained_model
from sam2vss_ros.sam2.cards import CARDS
from sam2vss_ros.sam2.edgetam.network import EdgeTam, EdgeTamSettings, build_edgetam
from sam2vss_ros.sam2.edgetam.perceiver import LATENTS
from sam2vss_ros.sam2.edgetam.repvit import RepViT
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.sam2.transformers_names import to_transformers

SIZE = 256
TINY = "sam2.1_hiera_tiny"

TIMM = (
    (2.4498, 2.5793, -0.7813, -0.8143, -0.8287, -0.9151, 2.4423, 2.4982),
    (3.5367, 4.0606, 0.6168, -2.124, -1.4082, -1.0595, 2.5595, 4.0013),
    (4.505, 7.1143, -9.6642, -18.7562, 3.5714, 5.2238, -5.1059, -6.0446),
    (6.9493, 9.3427, 3.9459, 5.2448, 17.3627, 5.5762, -3.4665, 0.4226),
)
"""What timm 1.0.31 gives: repvit_m1.dist_in1k, features_only, with the weights of `fill` and on
`image`; of each map four channels at (0, 0) and (1, 1)."""


def fill(module: nn.Module) -> None:
    """Weights that follow from the names alone: a renamed or missing tensor changes the others."""
    for i, (key, value) in enumerate(sorted(module.state_dict().items())):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel()) * 0.7 + i).view(value.shape)
        if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
            value.copy_(1 + 0.3 * wave)
        else:
            scale = (0.4 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.2
            value.copy_(wave * scale)


def image() -> Tensor:
    return torch.sin(torch.arange(3 * 64 * 64) * 0.013).view(1, 3, 64, 64)


def shown(maps: list[Tensor]) -> list[list[float]]:
    quarters = [(m, m.shape[1] // 4) for m in maps]
    return [[float(m[0, c * q, y, y]) for c in range(4) for y in (0, 1)] for m, q in quarters]


def test_trunk_is_timms() -> None:
    trunk = RepViT().eval()
    with torch.inference_mode():
        fill(trunk.body)
        maps = trunk(image())
    assert [tuple(m.shape[1:]) for m in maps] == [
        (48, 16, 16),
        (96, 8, 8),
        (192, 4, 4),
        (384, 2, 2),
    ]
    torch.testing.assert_close(torch.tensor(shown(maps)), torch.tensor(TIMM), atol=2e-3, rtol=1e-3)


def test_folded_trunk_gives_the_same() -> None:
    trunk = RepViT().eval().double()
    with torch.no_grad():
        fill(trunk.body)
        before = trunk(image().double())
        trunk.fold()
        after = trunk(image().double())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


@pytest.fixture(scope="module")
def network() -> EdgeTam:
    torch.manual_seed(5)
    return build_edgetam(SIZE)


@pytest.fixture(scope="module")
def metas_file(network: EdgeTam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meta") / "edgetam.pt"
    torch.save({"model": network.state_dict()}, path)
    return path


def save_folder(network: EdgeTam, folder: Path, **config: object) -> Path:
    """A folder as transformers saves it; what is not said is its class's default."""
    folder.mkdir(parents=True)
    weights = to_transformers(network.state_dict(), edgetam=True)
    save_file(
        {name: value.clone() for name, value in weights.items()}, folder / "model.safetensors"
    )
    trunk = {"model_type": "timm_wrapper", "architecture": "repvit_m1"}
    whole = {
        "model_type": "edgetam_video",
        "image_size": 1024,
        "enable_occlusion_spatial_embedding": network.no_obj_embed_spatial is not None,
        "enable_temporal_pos_encoding_for_object_pointers": network.add_tpos_enc_to_obj_ptrs,
        "vision_config": {"model_type": "edgetam_vision_model", "backbone_config": trunk},
    }
    (folder / "config.json").write_text(json.dumps({**whole, **config}))
    return folder


def follow(model: Sam2Model, preset: str = "exact") -> Tensor:
    """(2, 2, S/4, S/4): two objects on the two frames after that of their prompts."""
    size = model.image_size
    frames = torch.randn(3, 1, 3, size, size, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(2, size // 4, size // 4, dtype=torch.bool)
    masks[0, : size // 16, : size // 16] = True
    masks[1, size // 8 : size // 5, size // 8 : size // 5] = True
    tracker = model.new_tracker(2, PRESETS[preset])
    seen = []
    with torch.inference_mode():
        features = model.encode(frames[0])
        tracker.start(features, tracker.from_masks(features, [0, 1], masks))
        for frame in frames[1:]:
            features = model.encode(frame)
            tracked = tracker.step(features, [0, 1])
            tracker.commit(features, tracked)
            seen.append(tracked.masks)
    return torch.stack(seen)


def test_metas_file_and_transformers_folder_are_one_model(
    network: EdgeTam, metas_file: Path, tmp_path: Path
) -> None:
    model = load_model("edgetam", str(metas_file), device="cpu", image_size=SIZE)
    unfolded = sum(p.numel() for p in network.parameters())
    assert unfolded == model.card.parameters
    folder = save_folder(network, tmp_path / "folder")
    same = load_model("edgetam", str(folder), device="cpu", image_size=SIZE)
    assert model.network.state_dict().keys() == same.network.state_dict().keys()
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, same.network.state_dict()[key]), key
    torch.testing.assert_close(follow(model), follow(same))


def test_settings_of_a_folder_are_kept(tmp_path: Path) -> None:
    """A model that was trained at another size, with times and absence, as transformers' defaults
    would have it."""
    settings = EdgeTamSettings(native_size=SIZE, pointer_times=True, absence=True)
    folder = save_folder(
        build_edgetam(SIZE, settings),
        tmp_path / "folder",
        image_size=SIZE,
        memory_attention_rope_feat_sizes=[16, 16],
    )
    network = load_model("edgetam", str(folder), device="cpu").network
    assert isinstance(network, EdgeTam)
    assert (network.image_size, network.native_size) == (SIZE, SIZE)
    assert network.add_tpos_enc_to_obj_ptrs and network.no_obj_embed_spatial is not None


def test_a_memory_is_its_latents() -> None:
    """At 512 pixels windows are laid around objects; memories stay whole, and as large as ever."""
    for size in (256, 512):
        model = untrained_model("edgetam", "cpu", image_size=size)
        tracker = model.new_tracker(3, PRESETS["fast"])
        one_memory = LATENTS * 64 * 4
        assert 3 * 7 * one_memory < tracker.bank.nbytes() < 3.5 * 7 * one_memory
    windowed, whole = follow(model, "fast"), follow(model, "exact")
    assert windowed.shape == whole.shape
    outside = windowed == -10
    assert outside.any() and not outside.all(), "no window was laid"


@pytest.mark.parametrize("size", [32, 384, -256])
def test_sizes_that_do_not_divide_into_windows(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size: {size} is not a multiple of 256"):
        untrained_model("edgetam", "cpu", image_size=size)


def test_positions_count_in_steps_of_the_native_size() -> None:
    """The 16 windows of a memory are the same places of the image at every size."""
    small, large = build_edgetam(256), build_edgetam(512)
    every_other = large.query_rope.view(32, 32, -1)[::2, ::2].flatten(0, 1)
    torch.testing.assert_close(small.query_rope, every_other)
    native = build_edgetam(256, EdgeTamSettings(native_size=256))
    torch.testing.assert_close(native.query_rope, native.memory_rope[-256:])


def refused(checkpoint: Path, name: str = "edgetam") -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(name, str(checkpoint), device="cpu", image_size=256)
    return str(caught.value)


def test_files_of_other_models(network: EdgeTam, metas_file: Path, tmp_path: Path) -> None:
    assert "is not of model sam2.1_hiera_tiny, but looks like edgetam: " in refused(
        metas_file, TINY
    )
    tiny = tmp_path / "tiny.pt"
    torch.save(untrained_model(TINY, "cpu", image_size=64).network.state_dict(), tiny)
    assert "is not of model edgetam, but looks like sam2.1_hiera_tiny: " in refused(tiny)
    weights = network.state_dict()
    del weights["spatial_perceiver.layers.0.attn.to_kv.weight"]
    less = tmp_path / "less.pt"
    torch.save({"model": weights}, less)
    assert "1 missing: spatial_perceiver.layers.0.attn.to_kv.weight" in refused(less)


def test_folders_of_other_models(network: EdgeTam, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"checkpoint {empty} is no folder of this model: it has no config.json" in refused(empty)
    folder = save_folder(network, tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")

    def with_config(text: str) -> str:
        (folder / "config.json").write_text(text)
        return refused(folder)

    assert "config.json cannot be read: " in with_config("{")
    assert "config.json holds no mapping" in with_config("[]")
    other = json.dumps({**config, "model_type": "sam2_video"})
    assert "model_type is 'sam2_video'; model edgetam takes edgetam_video" in with_config(other)
    hiera = {"backbone_config": {"architecture": "repvit_m3.dist_in1k"}}
    assert "only timm's repvit_m1 is built" in with_config(
        json.dumps({**config, "vision_config": hiera})
    )
    assert "num_maskmem is 4; only 7 is built" in with_config(
        json.dumps({**config, "num_maskmem": 4})
    )
    assert "image_size is [256, 512], not the side of a square" in with_config(
        json.dumps({**config, "image_size": [256, 512]})
    )
    (folder / "config.json").write_text(json.dumps(config))
    assert "model sam2.1_hiera_tiny takes sam2_video" in refused(folder, TINY)

    def with_weights(**changed: Tensor | None) -> str:
        both = {**weights, **changed}
        kept = {name: value for name, value in both.items() if value is not None}
        save_file(kept, folder / "model.safetensors")
        return refused(folder)

    lost = "spatial_perceiver.layers.0.cross_attention.k_proj.weight"
    message = with_weights(**{lost: None})
    assert "1 missing: spatial_perceiver.layers.0.attn.to_kv.weight" in message
    assert "1 unexpected: spatial_perceiver.layers.0.cross_attention.v_proj.weight" in message
    twice = "shared_image_embedding.positional_embedding"
    assert f"and {twice} differ" in with_weights(**{twice: torch.zeros(2, 128)})
    (folder / "model.safetensors").unlink()
    assert "it has no model.safetensors" in refused(folder)


def test_card_says_what_meta_publishes() -> None:
    card = CARDS["edgetam"]
    assert (card.licence, card.file, card.hub_id) == (
        "Apache-2.0",
        "edgetam.pt",
        "facebook/EdgeTAM",
    )


def test_speed_is_measured_beside_upstreams_smallest() -> None:
    model = untrained_model("edgetam", "cpu", image_size=SIZE)
    rows = speed._rows(model, 1, True, speed.engines(), upstream=True)
    first, second = rows[:2]
    assert (first.name, second.name) == (f"upstream {TINY}", "exact")
    assert first.stream.predictor.image_size == SIZE  # type: ignore[attr-defined]


def test_image_features_have_the_shapes_of_sam2() -> None:
    model = untrained_model("edgetam", "cpu", image_size=SIZE)
    with torch.inference_mode():
        features = functional.encode_image(model.network, torch.zeros(1, 3, SIZE, SIZE))
    assert features.top.shape == (1, 256, 16, 16)
    assert [tuple(f.shape[1:]) for f in features.high_res] == [(32, 64, 64), (64, 32, 32)]
