"""What semantics say of an image at a second look, and a head that learns it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.cli import main
from sam2vss_ros.semantics.model import read_semantics, save_semantics
from sam2vss_ros.training import data, semantics
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.training.teacher import second_look
from street_stills import CAMVID, street, worn_semantics


@pytest.fixture(scope="module")
def trunk() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def test_a_second_look_joins_sizes_and_the_mirror_image(trunk: AffinityModel) -> None:
    clip = make_clip(3, 1, (120, 160), kind="street")
    still = replace(street(), image=clip.frames[0])
    mirrored = replace(still, image=np.ascontiguousarray(still.image[:, ::-1]))
    embedded = replace(read_semantics("street"), image_size=256)
    ours, theirs = second_look(trunk, embedded, [still, mirrored])
    assert ours.second is not None and theirs.second is not None
    assert ours.second.shape == (48, 64, 11) and ours.second.dtype == np.uint8
    assert np.abs(ours.second.sum(2, dtype=int) - 255).max() <= 6
    # Both were seen both ways, so that what is said of them is nearly the same.
    back = theirs.second[:, ::-1].astype(int)
    assert np.abs(ours.second - back).mean() < 3
    assert (ours.second.argmax(2) == back.argmax(2)).mean() > 0.95
    assert len(np.unique(ours.second.argmax(2))) > 2
    assert still.second is None and ours.labels is still.labels


def test_a_run_begins_with_its_teacher_and_stays_near_it(
    trunk: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    path = tmp_path / "teacher.safetensors"
    save_semantics(worn_semantics(), path, {})
    taught = semantics.train_semantics(
        trunk, [street()], CAMVID, tmp_path / "run", steps=1, teacher=str(path), views=2, size=64
    )
    begun = read_semantics(str(path))
    for part in ("head", "classifier"):
        ours, theirs = getattr(taught, part).state_dict(), getattr(begun, part).state_dict()
        for name, value in theirs.items():
            if name.endswith("weight"):
                torch.testing.assert_close(ours[name], value, rtol=0.01, atol=0.001)
    weight = "classify.weight"
    assert not torch.equal(taught.head.state_dict()[weight], begun.head.state_dict()[weight])


def test_a_teacher_of_other_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    still = street()
    cv2.imwrite(str(tmp_path / "images" / "a_1.png"), still.image)
    cv2.imwrite(str(tmp_path / "labels" / "a_1.png"), (still.labels == 3).astype(np.uint8))
    classes = tmp_path / "two.yaml"
    classes.write_text(
        "name: two\nclasses:\n"
        "  - {id: 0, name: rest, color: [0, 0, 0]}\n  - {id: 1, name: road, color: [9, 9, 9]}\n"
    )
    command = ["train", "semantics", "--data", str(tmp_path), "--classes", str(classes)]
    command += ["--out", str(tmp_path / "x.safetensors"), "--holdout", "0"]
    assert main([*command, "--teacher", "street"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "teacher: the classes of street (Sky, Building" in line and "(rest, road)" in line
    assert main([*command, "--teacher", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--teacher", "street", "--pretrained", "m.pt"])
