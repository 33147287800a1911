"""SAM 2 models of other people, by their YAML files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sam2
import torch
import yaml
from sam2.build_sam import build_sam2

from sam2vss_ros.bench.material import tiles
from sam2vss_ros.bench.parity import compare
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import LONGEST_MESSAGE, InputError, ModelUnavailableError
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2.build import load_model, untrained_model
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.types import Frame, Prompt
from small_sam2 import SMALL_SAM2, SMALL_WEIGHTS

CONFIGS = Path(sam2.__file__).parent / "configs"


def content() -> dict[str, Any]:
    """The small SAM 2's file."""
    return dict(yaml.safe_load(Path(SMALL_SAM2).read_text()))


def mine(folder: Path, data: object) -> Path:
    """A file of that content, with the small SAM 2's weights beside it."""
    path = folder / "mine.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    shutil.copy(SMALL_WEIGHTS, folder / "mine.safetensors")
    return path


def complaint(path: Path, **arguments: Any) -> str:
    with pytest.raises((InputError, ModelUnavailableError)) as caught:
        load_model(str(path), device="cpu", **arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) <= LONGEST_MESSAGE
    return message


def test_a_file_gives_the_network_and_what_suits_it() -> None:
    model = load_model(SMALL_SAM2, device="cpu")
    card = model.card
    assert (card.discovery, card.understands_points, card.cpu_threads) == ("regions", False, 1)
    assert (card.max_objects, card.engine, card.name) == (6, "fast", SMALL_SAM2)
    assert model.image_size == card.image_size == 256
    assert sum(p.numel() for p in model.network.parameters()) == 1_231_922
    assert load_model(SMALL_SAM2, device="cpu", image_size=320).image_size == 320
    decoder = model.network.sam_mask_decoder
    assert decoder.transformer.layers[0].mlp.layers[0].out_features == 256
    assert decoder.transformer.num_heads == 4


def test_without_a_block_of_ours_a_model_is_used_as_metas_are(tmp_path: Path) -> None:
    data = content()
    del data["sam2vss"]
    ours, metas = model_card(str(mine(tmp_path, data))), model_card("sam2.1_hiera_tiny")
    for name in ("discovery", "understands_points", "cpu_threads", "max_objects", "engine"):
        assert getattr(ours, name) == getattr(metas, name)


def test_a_file_of_the_sam2_package_is_one(tmp_path: Path) -> None:
    """Meta's own configuration with its own numbers (1e-6) and a checkpoint in Meta's format."""
    shutil.copy(CONFIGS / "sam2.1/sam2.1_hiera_t.yaml", tmp_path / "tuned.yaml")
    torch.manual_seed(0)
    upstream = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu").state_dict()
    torch.save({"model": upstream}, tmp_path / "tuned.pt")
    loaded = load_model(str(tmp_path / "tuned.yaml"), device="cpu", image_size=64).network
    assert loaded.binarize_mask_from_pts_for_mem_enc, "what SAM 2's predictor adds"
    assert all(torch.equal(value, upstream[key]) for key, value in loaded.state_dict().items())


def test_a_sam_2_0_is_followed_as_upstream_follows_it() -> None:
    """It lacks parts of SAM 2.1; random weights, by which all objects are seen."""
    model = untrained_model(str(CONFIGS / "sam2/sam2_hiera_t.yaml"), "cpu", image_size=64)
    model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(1e4)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(9)]
    found = compare(model, images, {0: [Prompt(mask=mask) for mask in tiles(2, 64)]})
    assert found.seen == 1.0 and found.mean_iou >= 0.999 and found.max_logit_diff < 1e-3


def test_weights_are_named_or_lie_beside(tmp_path: Path) -> None:
    path = mine(tmp_path, content())
    load_model(str(path), device="cpu")
    (tmp_path / "mine.safetensors").rename(tmp_path / "other.safetensors")
    said = complaint(path)
    assert f"there is no {tmp_path / 'mine.safetensors'} and no {tmp_path / 'mine.pt'}" in said
    assert "checkpoint" in said
    load_model(str(path), str(tmp_path / "other.safetensors"), device="cpu")
    assert "gone.pt is not a file" in complaint(path, checkpoint=str(tmp_path / "gone.pt"))
    assert untrained_model(str(path), device="cpu").image_size == 256


def test_weights_of_other_sizes_are_named(tmp_path: Path) -> None:
    data = content()
    data["sam2vss"]["decoder"]["mlp_dim"] = 512
    said = complaint(mine(tmp_path, data))
    assert "mine.safetensors is not of model" in said and "of another shape" in said
    assert (
        "sam_mask_decoder.transformer.layers.0.mlp.layers.0.bias (256,) instead of (512,)" in said
    )


def test_a_pipeline_runs_on_it(tmp_path: Path) -> None:
    data = content() | {"sam2vss": content()["sam2vss"] | {"max_objects": 3}}
    config = PipelineConfig(model=str(mine(tmp_path, data)), device="cpu", image_size=64)
    pipe = VssPipeline(Perception.load(config), config)
    assert (pipe.config.max_objects, pipe.config.discovery) == (3, "regions")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for t in range(3):
        assert pipe.process(Frame(image, t)).label_image.shape == (64, 64)
    pipe.close()


# --- what is no such file


def changed(*keys: str, to: Any) -> Callable[[], dict[str, Any]]:
    """The file with another value at a place."""

    def change() -> dict[str, Any]:
        data = content()
        node = data
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = to
        return data

    return change


TRUNK = ("model", "image_encoder", "trunk")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: "", "a mapping model with _target_ is missing"),
        (lambda: "- 1", "a mapping model with _target_ is missing"),
        (lambda: {"trainer": 1}, "a mapping model with _target_ is missing"),
        (lambda: "model: [", "mine.yaml: line 1"),
        (lambda: "model: 1\nmodel: 2", "the key 'model' is there twice"),
        (changed("model", "image_size", to="big"), "model.image_size: 'big' is a str"),
        (changed("model", "image_size", to=1 << 20), "model.image_size: 1048576 is outside"),
        (changed("model", "image_size", to=500), "model.image_size: 500 is not a multiple of 32"),
        (changed(*TRUNK, "embed_dims", to=3), "trunk: Hiera.__init__() got an unexpected keyword"),
        (changed(*TRUNK, "embed_dim", to=[1]), "model.image_encoder.trunk: "),
        (changed(*TRUNK, "_partial_", to=True), "of hydra's own keys only _target_ is known"),
        (changed(*TRUNK, "embed_dim", to="${oc.env:HOME}"), "is not looked up, write the value"),
        (changed(*TRUNK, "weights_path", to="x.pt"), "weights come from the checkpoint alone"),
        (changed("model", "_target_", to="sam2.modeling.sam2_base.SAM3"), "model: sam2 has no "),
        (changed("model", "_target_", to="sam2.modeling.memory_encoder.Fuser"), "model: "),
        (changed("model", "use_high_res_features_in_sam", to=False), "False is not True"),
        (changed("model", "soft_no_obj_ptr", to=True), "model.soft_no_obj_ptr: True is not False"),
        (
            changed("model", "memory_encoder", "position_encoding", "num_pos_feats", to=16),
            "its parts do not fit together",
        ),
        (changed("sam2vss", to=[1]), "sam2vss: [1] is no mapping"),
        (changed("sam2vss", "engin", to="fast"), "sam2vss: engin is not one of discovery, points"),
        (changed("sam2vss", "engine", to="quick"), "sam2vss.engine: 'quick' is not one of exact"),
        (changed("sam2vss", "points", to=3), "sam2vss.points: 3 is a int"),
        (changed("sam2vss", "decoder", "heads", to=3), "sam2vss.decoder: heads is not one of"),
        (changed("sam2vss", "decoder", "num_heads", to=5), "num_heads: 5 do not divide 64"),
    ],
)
def test_what_is_wrong_is_named(data: Callable[[], object], said: str, tmp_path: Path) -> None:
    path = mine(tmp_path, data())
    message = complaint(path)
    assert message.startswith(f"model: {path}: ") and said in message


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "sam2.build_sam.os.system",
        "sam2.benchmark",
        "sam2.modeling.sam2_base.torch.load",
        "sam2.modeling.sam2_utils.copy.deepcopy",
        "sam2.modeling.memory_encoder.nn.Linear",
        "sam2.modeling.memory_encoder.Linear",
        "sam2.modeling.backbones.hieradet.g_pathmgr.open",
        "sam2.modeling.sam2_utils.get_1d_sine_pe",
        "sam2.modeling..sam2_base.SAM2Base",
        "sam2.modeling.",
        7,
    ],
)
def test_nothing_but_sam2_is_run(target: object, tmp_path: Path) -> None:
    for keys in (("model", "_target_"), (*TRUNK, "_target_"), ("model", "extra", "_target_")):
        message = complaint(mine(tmp_path, changed(*keys, to=target)()))
        assert str(target) in message
        assert any(s in message for s in ("is not built", "sam2 has no", "is no module of sam2"))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match="^model: /nowhere/mine.yaml is not a file"):
        load_model("/nowhere/mine.yaml")
    with pytest.raises(ValueError, match=r"^model: 'mine.json' is not one of mobile, .*\.yaml"):
        PipelineConfig(model="mine.json")
