"""Which files of a folder are frames, in which order, and which belong together."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_folders import (
    files_by_number,
    images_by_stem,
    join,
    list_images,
    natural_order,
    stems_by_stream,
)


def touch(folder: Path, names: str) -> Path:
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_numbers_count_as_numbers() -> None:
    mixed = ["f10", "f9", "f2b", "f2", "f02", "g1", "10", "9", "f", "f2_10", "f2_9", "1.5", "1.25"]
    assert sorted(mixed, key=natural_order) == [
        "1.5", "1.25", "9", "10", "f", "f02", "f2", "f2_9", "f2_10", "f2b", "f9", "f10", "g1",
    ]  # fmt: skip


def test_images_come_in_natural_order_and_hidden_files_do_not(tmp_path: Path) -> None:
    touch(
        tmp_path, "frame_10.png frame_9.JPG frame_2.tiff Thumbs.db ._frame_1.png .a.png notes.txt"
    )
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "frame_3.png").symlink_to(tmp_path / "frame_10.png")
    found = ["frame_2.tiff", "frame_3.png", "frame_9.JPG", "frame_10.png"]
    assert names(list_images(tmp_path)) == found
    assert list(images_by_stem(tmp_path)) == ["frame_2", "frame_3", "frame_9", "frame_10"]


def test_sub_folders_are_read_where_a_folder_holds_no_images(tmp_path: Path) -> None:
    touch(tmp_path / "data", "b10/1.png b9/2.png b9/1.png .cache/1.png b9/deep/1.png b9/notes.txt")
    (tmp_path / "data" / "b9" / "loop").symlink_to(tmp_path / "data")
    touch(tmp_path / "elsewhere", "7.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    found = images_by_stem(tmp_path / "data")
    assert list(found) == ["b9/1", "b9/2", "b9/deep/1", "b10/1", "linked/7"]
    assert found["linked/7"] == tmp_path / "data" / "linked" / "7.png"
    with pytest.raises(InputError, match=r"holds no images itself, but its sub-folders do: .*b10"):
        list_images(tmp_path / "data")


def test_images_beside_sub_folders_are_all_that_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a_1.png labels/a_1.png")
    with caplog.at_level(logging.INFO):
        assert list(images_by_stem(tmp_path)) == ["a_1"]
    assert "images in its sub-folders are left out: labels" in caplog.text


def test_two_files_of_one_name_are_told_apart_by_their_end(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg a.png b.JPG b.png")
    with pytest.raises(InputError, match=r"a.jpg and .*a.png have one name.*--label-suffix .png"):
        images_by_stem(tmp_path)
    assert names(list(images_by_stem(tmp_path, ".jpg").values())) == ["a.jpg", "b.JPG"]
    assert list(images_by_stem(tmp_path, ".png")) == ["a", "b"]


def test_a_suffix_is_cut_and_chooses(tmp_path: Path) -> None:
    touch(tmp_path, "x_1_gtFine_labelIds.png x_1_gtFine_color.png x_1_gtFine_instanceIds.png")
    assert list(images_by_stem(tmp_path, "_gtFine_labelIds")) == ["x_1"]
    assert list(images_by_stem(tmp_path, "_gtFine_labelIds.png")) == ["x_1"]
    with pytest.raises(
        InputError, match=r"end with _mask; they end with _gtFine_color, _gtFine_in"
    ):
        images_by_stem(tmp_path, "_mask")


def test_names_are_joined_without_the_words_they_all_end_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = images_by_stem(
        touch(tmp_path / "i", "c/a_1_2_leftImg8bit.png c/a_2_2_leftImg8bit.png")
    )
    labels = images_by_stem(touch(tmp_path / "l", "c/a_1_2_gtFine_labelIds.png"))
    with caplog.at_level(logging.INFO):
        files = join({"images": images, "labels": labels})
    assert list(files["images"]) == ["c/a_1_2", "c/a_2_2"] and list(files["labels"]) == ["c/a_1_2"]
    assert "by other names than theirs: c/a_1_2_gtFine_labelIds is c/a_1_2" in caplog.text
    camvid = {"0001TP_006690": tmp_path}, {"0001TP_006690_L": tmp_path}
    files = join({"images": camvid[0], "labels": camvid[1]})
    assert list(files["labels"]) == ["0001TP_006690"]


def test_names_that_meet_are_left_alone(tmp_path: Path) -> None:
    meeting = {"images": {"a_left": tmp_path, "b_left": tmp_path}, "labels": {"a_left": tmp_path}}
    assert join(meeting) == meeting
    kinds = {"images": {"a_1": tmp_path}, "labels": {"a_1_color": tmp_path, "a_1_ids": tmp_path}}
    assert join(kinds) == kinds, "which of them is not known"


def test_sub_folders_that_only_one_side_has(tmp_path: Path) -> None:
    images = {"rec1/a_1_left": tmp_path, "rec2/a_2_left": tmp_path}
    for labels, end in (({"a_1_left": tmp_path}, "_left"), ({"a_1_ids": tmp_path}, "")):
        files = join({"labels": labels, "images": images})
        assert list(files["labels"]) == [f"rec1/a_1{end}"]
        assert list(files["images"]) == [f"rec1/a_1{end}", f"rec2/a_2{end}"]
    twice = {"labels": {"1": tmp_path}, "images": {"rec1/1": tmp_path, "rec2/1": tmp_path}}
    assert join(twice) == twice, "of which of the two it is, is not known"


def test_a_sub_folder_is_a_stream_or_several() -> None:
    stems = ["rec2/000010", "rec2/000009", "rec1/a_1", "rec1/b_1", "rec10/x", "7", "c_2", "c_10"]
    assert stems_by_stream(stems) == {
        "frames": ["7"],
        "c": ["c_2", "c_10"],
        "rec1/a": ["rec1/a_1"],
        "rec1/b": ["rec1/b_1"],
        "rec2": ["rec2/000009", "rec2/000010"],
        "rec10": ["rec10/x"],
    }


def test_numbers_before_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "alike", "000012_mask.png 7_mask.png")
    assert sorted(files_by_number(tmp_path / "alike")) == [7, 12]
    touch(tmp_path, "000012_mask.png a_7_mask.png 000012_color.png")
    assert sorted(files_by_number(tmp_path, "_mask")) == [7, 12]
    with pytest.raises(InputError, match=r"does not end with the number of its frame .*--label-s"):
        files_by_number(tmp_path)
