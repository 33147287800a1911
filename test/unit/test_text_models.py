"""Where patches meet texts, proven for each family on a model that was trained as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from colour_scenes import COLOURS, draw_scene
from sam2vss_ros.semantics.vocabulary.families import Clip, Crops, Siglip, Siglip2, without_global
from sam2vss_ros.semantics.vocabulary.loading import load_text_model, open_text_model
from sam2vss_ros.semantics.vocabulary.text_model import crop_around, vector_of
from text_models import TRAINED, accuracy, folder_of, pooled_naively, text_model

CPU = torch.device("cpu")
transformers = pytest.importorskip("transformers")

TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TEXT = TOWER | {
    "vocab_size": 20,
    "max_position_embeddings": 8,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
VISION = TOWER | {"image_size": 32, "patch_size": 8}


def write(folder: Path, model: Any) -> Path:
    """A folder with a model of random weights, and the tokenizer of a trained one."""
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(folder_of("clip")) / file, folder / file)
    return folder


@pytest.mark.parametrize(("family", "least"), [("tipsv2", 0.95), ("clip", 0.85), ("siglip", 0.85)])
def test_masks_are_called_by_their_colour(family: str, least: float) -> None:
    model = text_model(family)
    assert accuracy(model, lambda scene, masks: model.look(scene.image).pool(masks)) >= least


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_naive_pooling_fails_where_a_model_learnt_whole_images(family: str) -> None:
    model = text_model(family)
    assert accuracy(model, lambda scene, masks: pooled_naively(model, scene, masks)) < 0.5


def test_patches_of_tipsv2_are_what_it_learnt() -> None:
    model = text_model("tipsv2")
    assert accuracy(model, lambda scene, masks: pooled_naively(model, scene, masks)) > 0.9


@pytest.mark.parametrize("family", TRAINED)
def test_patches_meet_texts(family: str) -> None:
    """The dense features: each patch that shows one box alone."""
    model = text_model(family)
    rng, names, right = np.random.default_rng(3), list(COLOURS), []
    texts = model.texts(names)
    for _ in range(20):
        scene = draw_scene(rng, 3)
        patches = model.look(scene.image).patches()
        assert patches is not None and patches.shape == (48, 8, 8)
        found = (F.normalize(patches, dim=0).flatten(1).T @ texts.T).argmax(1).reshape(8, 8)
        for mask, name in zip(scene.masks, scene.names, strict=True):
            full = mask.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3).all((2, 3))
            right += [names[i] == name for i in found[torch.from_numpy(full)].tolist()]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("family", TRAINED)
def test_a_mask_smaller_than_two_patches_is_looked_at_in_a_crop(family: str) -> None:
    model = text_model(family)
    image = np.full((480, 640, 3), 110, np.uint8)
    image[200:230, 300:330] = COLOURS["red"]  # a sixth of a patch
    mask = torch.zeros(1, 120, 160, dtype=torch.bool)
    mask[0, 50:57, 75:82] = True
    names = list(COLOURS)
    found = model.look(image).pool(mask) @ model.texts(names).T
    assert names[int(found.argmax())] == "red"


@pytest.mark.parametrize("family", TRAINED)
def test_an_empty_mask_has_no_vector_and_others_unit_length(family: str) -> None:
    scene = draw_scene(np.random.default_rng(0), 1)
    masks = torch.from_numpy(np.stack([scene.masks[0], np.zeros_like(scene.masks[0])]))
    vectors = text_model(family).look(scene.image).pool(masks)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


def test_the_head_of_siglip_under_a_full_mask_is_the_models_own_answer() -> None:
    model = text_model("siglip")
    image = draw_scene(np.random.default_rng(1), 3).image
    own = vector_of(model.model.get_image_features(model.prepare.tensor(image, CPU)))
    ours = model.look(image).pool(torch.ones(1, 64, 64, dtype=torch.bool))
    torch.testing.assert_close(ours, F.normalize(own, dim=1), rtol=1e-4, atol=1e-5)


def test_the_head_of_siglip_does_not_see_what_is_masked() -> None:
    """Tokens outside of the mask may be anything."""
    model = text_model("siglip")
    assert isinstance(model, Siglip)
    tokens, _ = model.tokens(
        model.prepare.tensor(draw_scene(np.random.default_rng(1), 3).image, CPU)
    )
    weights = (torch.arange(64)[None] < 20).float()
    spoilt = tokens.clone()
    spoilt[:, 20:] = 7.0
    torch.testing.assert_close(model.pooled(tokens, weights), model.pooled(spoilt, weights))


def test_siglip2_is_given_patches_and_pools_as_its_own_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = {k: v for k, v in VISION.items() if k != "image_size"} | {"num_patches": 16}
    config = transformers.Siglip2Config(
        text_config=TEXT | {"projection_size": 16}, vision_config=vision
    )
    model = load_text_model(str(write(tmp_path, transformers.Siglip2Model(config))), CPU)
    assert isinstance(model, Siglip2) and model.prepare.size == (32, 32)
    image = draw_scene(np.random.default_rng(1), 3, side=32).image
    pixels = model.prepare.tensor(image, CPU)
    tiles = F.unfold(pixels, 8, stride=8).reshape(3, 64, 16).permute(2, 1, 0).reshape(1, 16, 192)
    own = vector_of(
        model.model.get_image_features(
            pixel_values=tiles,
            pixel_attention_mask=torch.ones(1, 16, dtype=torch.long),
            spatial_shapes=torch.tensor([[4, 4]]),
        )
    )
    ours = model.look(image).pool(torch.ones(1, 32, 32, dtype=torch.bool))
    torch.testing.assert_close(ours, F.normalize(own, dim=1), rtol=1e-4, atol=1e-5)
    assert model.texts(["red", "blue"]).shape == (2, 16)


def test_metaclip_2_goes_the_way_of_clip(tmp_path: Path) -> None:
    """With the weights of the trained CLIP it gives the same vectors."""
    clip = text_model("clip")
    data = json.loads((Path(folder_of("clip")) / "config.json").read_text())
    config = transformers.MetaClip2Config(
        text_config={k: v for k, v in data["text_config"].items() if k != "model_type"},
        vision_config={k: v for k, v in data["vision_config"].items() if k != "model_type"},
        projection_dim=data["projection_dim"],
    )
    other = transformers.MetaClip2Model(config)
    other.load_state_dict(clip.model.state_dict(), strict=False)
    folder = write(tmp_path, other)
    shutil.copy(Path(folder_of("clip")) / "preprocessor_config.json", folder)
    model = load_text_model(str(folder), CPU)
    assert isinstance(model, Clip)
    scene = draw_scene(np.random.default_rng(2), 3)
    masks = torch.from_numpy(np.stack(scene.masks))
    torch.testing.assert_close(
        model.look(scene.image).pool(masks), clip.look(scene.image).pool(masks)
    )


def test_any_other_family_sees_crops(tmp_path: Path) -> None:
    """CLIPSeg has the towers of CLIP: with the weights of the trained one it is as right."""
    clip = text_model("clip")
    data = json.loads((Path(folder_of("clip")) / "config.json").read_text())
    config = transformers.CLIPSegConfig(
        text_config={k: v for k, v in data["text_config"].items() if k != "model_type"},
        vision_config={k: v for k, v in data["vision_config"].items() if k != "model_type"},
        projection_dim=data["projection_dim"],
    )
    other = transformers.CLIPSegModel(config)
    other.load_state_dict(clip.model.state_dict(), strict=False)
    folder = write(tmp_path, other)
    shutil.copy(Path(folder_of("clip")) / "preprocessor_config.json", folder)
    model = load_text_model(str(folder), CPU)
    assert isinstance(model, Crops)
    assert model.look(draw_scene(np.random.default_rng(1), 1).image).patches() is None
    assert accuracy(model, lambda scene, masks: model.look(scene.image).pool(masks), 15) > 0.85


def test_patches_that_speak_for_the_whole_image_are_left_out() -> None:
    own, other = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    everywhere = F.normalize(own + other, dim=0)
    units = torch.stack([own, own, everywhere, other, other])
    masks = torch.tensor([[1.0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]])
    expected = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]])
    torch.testing.assert_close(without_global(units, masks), expected)


def test_a_crop_has_room_and_stays_inside() -> None:
    image = np.arange(100 * 200 * 3).reshape(100, 200, 3).astype(np.uint8)
    mask = torch.zeros(50, 100, dtype=torch.bool)
    mask[20:30, 40:60] = True
    crop, inside = crop_around(image, mask)
    assert crop.shape == (80, 80, 3) and inside.shape == (40, 40) and inside.sum() == 200
    corner = torch.zeros(50, 100, dtype=torch.bool)
    corner[0, 0] = True
    crop, inside = crop_around(image, corner)
    assert min(crop.shape[:2]) >= 2 and inside[0, 0]


def test_the_getters_may_answer_with_tensors_as_before_transformers_5() -> None:
    vectors = torch.ones(2, 3)

    class Output:
        pooler_output = vectors

    assert vector_of(vectors) is vectors and vector_of(Output()) is vectors


def test_a_folder_without_a_preprocessor_gets_that_of_its_family(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(folder_of("tipsv2"), tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    model = open_text_model(str(folder), CPU)
    assert model.prepare.size == (64, 64) and list(model.prepare.std) == [1, 1, 1]
    assert "has no preprocessor_config.json" in caplog.text


def test_what_is_no_text_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="text_model: .*nothere does not exist, nor was it"):
        open_text_model(str(tmp_path / "nothere"), CPU)
    with pytest.raises(ValueError, match="text_model: .* cannot be loaded by transformers: "):
        open_text_model(str(tmp_path), CPU)
    transformers.ViTConfig(**VISION).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a vit gives no features of images and text; these famil"):
        open_text_model(str(tmp_path), CPU)


def test_a_model_without_its_weights_or_with_code_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("clip"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ValueError, match="auto_map: it brings Python code"):
        open_text_model(str(folder), CPU)
    config["vision_config"]["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its weights lack"):
        open_text_model(str(folder), CPU)
