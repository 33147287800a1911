"""Training material: stills from a folder, regions, masks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sam2vss_ros.errors import InputError
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass
from sam2vss_ros.training import data
from sam2vss_ros.training.data import LabelledStill, label_regions, load_stills
from sam2vss_ros.training.masks import sample_masks
from stills import CAMVID, two_halves
from street_stills import street


def write_still(folder: Path, name: str, still: LabelledStill) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    assert CAMVID.ignore_id is not None
    ids = np.where(still.labels == 255, CAMVID.ignore_id, still.labels).astype(np.uint8)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), still.image[..., ::-1])
    cv2.imwrite(str(folder / "labels" / f"{name}.png"), ids)


def test_stills_come_sorted_with_class_indices(tmp_path: Path) -> None:
    still = two_halves()
    for name in ("b", "a"):
        write_still(tmp_path, name, still)
    loaded = load_stills(tmp_path, CAMVID)
    assert [s.name for s in loaded] == ["a", "b"]
    assert np.array_equal(loaded[0].image, still.image)  # RGB
    assert np.array_equal(loaded[0].labels, still.labels)


def test_label_ids_become_indices_of_the_catalog(tmp_path: Path) -> None:
    """The loader's index is the class's place in the catalog, not its id."""
    write_still(tmp_path, "a", two_halves())
    classes = tuple(reversed(CAMVID.classes))
    loaded = load_stills(tmp_path, ClassCatalog("reversed", classes, CAMVID.ignore_id))
    assert set(np.unique(loaded[0].labels)) == {10 - 0, 10 - 3, 10 - 8, 255}


def break_label_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.zeros((32, 64), np.uint8))


def break_label_ids(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.full((64, 64), 77, np.uint8))


def lose_classes(folder: Path) -> None:
    for path in (folder / "labels").iterdir():
        cv2.imwrite(str(path), np.full((64, 64), 11, np.uint8))


def break_label_depth(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.full((64, 64, 3), (1, 2, 3), np.uint8))


def break_image(folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes(b"not an image")


def break_label(folder: Path) -> None:
    (folder / "labels" / "a.png").write_bytes(b"not an image")


def lose_label(folder: Path) -> None:
    (folder / "labels" / "a.png").unlink()


def lose_labels(folder: Path) -> None:
    shutil.rmtree(folder / "labels")


def lose_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def add_twin(folder: Path) -> None:
    cv2.imwrite(str(folder / "images" / "a.bmp"), np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (break_label_size, ["labels/a.png is 64x32", "images/a.png is 64x64"]),
        (break_label_ids, ["labels/a.png", "77"]),
        (break_label_depth, ["labels/a.png has 4096 pixels in 1 colours", "most in (3, 2, 1)"]),
        (break_image, ["images/a.png cannot be read as an image"]),
        (break_label, ["labels/a.png cannot be read as a label image"]),
        (lose_classes, ["labels: no pixel has a class of camvid"]),
        (lose_label, ["labels: no label for a.png"]),
        (lose_labels, ["labels is not a folder"]),
        (lose_images, ["images holds no images"]),
        (add_twin, ["images/a.bmp and", "images/a.png have one name but for the suffix"]),
    ],
)
def test_bad_folders_are_named(
    damage: Callable[[Path], None], names: list[str], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_still(tmp_path, name, two_halves())
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        load_stills(tmp_path, CAMVID)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".tif", ".webp"])
def test_images_of_any_suffix_are_trained_on(suffix: str, tmp_path: Path) -> None:
    still = two_halves()
    write_still(tmp_path, "a", still)
    (tmp_path / "images" / "a.png").unlink()
    Image.fromarray(still.image).save(tmp_path / "images" / f"a{suffix}")
    (loaded,) = load_stills(tmp_path, CAMVID)
    assert loaded.name == "a" and np.array_equal(loaded.labels, still.labels)
    # Compression changes colours near edges; a swap of red and blue would change all of the sky.
    difference = np.abs(loaded.image.astype(int) - still.image)
    assert difference.mean() < 5


def test_labels_may_be_indices_of_a_palette(tmp_path: Path) -> None:
    still = two_halves()
    write_still(tmp_path, "a", still)
    ids = np.where(still.labels == 255, 11, still.labels).astype(np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(CAMVID.palette()[:256].tobytes())
    palette.save(tmp_path / "labels" / "a.png")
    assert Image.open(tmp_path / "labels" / "a.png").mode == "P"
    (loaded,) = load_stills(tmp_path, CAMVID)
    assert np.array_equal(loaded.labels, still.labels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_may_have_16_bits_and_another_suffix_than_their_image(
    suffix: str, tmp_path: Path
) -> None:
    write_still(tmp_path, "a", two_halves())
    (tmp_path / "labels" / "a.png").unlink()
    ids = np.full((64, 64), 300, np.uint16)
    ids[:, :10], ids[:, 10:20] = 65535, 44
    cv2.imwrite(str(tmp_path / "labels" / f"a{suffix}"), ids)
    names = ((44, "near"), (300, "far"))
    classes = tuple(SemanticClass(id_, name, (0, 0, 0), False) for id_, name in names)
    (loaded,) = load_stills(tmp_path, ClassCatalog("wide", classes, 65535))
    assert loaded.labels.dtype == np.uint8
    assert (loaded.labels[:, :10] == 255).all()
    assert (loaded.labels[:, 10:20] == 0).all() and (loaded.labels[:, 20:] == 1).all()


def test_more_classes_than_training_takes_are_refused(tmp_path: Path) -> None:
    write_still(tmp_path, "a", two_halves())
    classes = tuple(SemanticClass(i, str(i), (0, 0, 0), False) for i in range(256))
    with pytest.raises(InputError, match="class catalog many: 256 classes, training takes 255"):
        load_stills(tmp_path, ClassCatalog("many", classes))
    (loaded,) = load_stills(tmp_path, ClassCatalog("most", classes[:255]))
    assert set(np.unique(loaded.labels)) == {0, 3, 8, 11}


def test_label_regions_are_connected_and_void_is_none() -> None:
    labels = two_halves().labels
    regions = label_regions(labels)
    assert np.array_equal(regions == 0, labels == 255)
    assert {int(regions[0, 10]), int(regions[-1, 10]), int(regions[32, 30])} == {1, 2, 3}
    apart = labels.copy()
    apart[:, 30] = 255  # cuts every region in two
    assert len(np.unique(label_regions(apart))) == 1 + 6


def test_the_end_of_each_recording_is_kept_out() -> None:
    names = [f"a_{i:03d}" for i in range(10)] + [f"b2_f{i:03d}" for i in range(20)]
    used, kept = data.split_off([street(n) for n in names], 0.1)
    assert [s.name for s in kept] == ["a_009", "b2_f018", "b2_f019"]
    assert sorted(s.name for s in [*used, *kept]) == sorted(names)
    assert data.split_off([street()], 0.0)[1] == []


def test_masks_such_as_a_tracker_has_know_their_shares() -> None:
    labels = two_halves().labels
    quarter = labels[2::4, 2::4]
    pure = []
    for seed in range(20):
        masks, shares = sample_masks(labels, 11, np.random.default_rng(seed))
        assert masks.shape[1:] == (16, 16) and masks.dtype == torch.bool
        for mask, share in zip(masks.numpy(), shares.numpy(), strict=True):
            inside = quarter[mask]
            known = inside[inside != 255]
            assert share.sum() == pytest.approx(1) and set(np.flatnonzero(share)) <= {0, 3, 8}
            assert share[3] == pytest.approx((known == 3).mean())
            pure.append(share.max())
    assert 0.3 < np.mean(np.array(pure) > 0.99) < 0.95, "good ones and bad ones"
    nothing, none = sample_masks(np.full((64, 64), 255, np.uint8), 11, np.random.default_rng(0))
    assert nothing.shape == (0, 16, 16) and none.shape == (0, 11)
