"""Videos that are written, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.io.video_writer import VideoWriter


def plain(red: int, height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = red
    return image


def read(path: Path) -> list[npt.NDArray[np.uint8]]:
    return [frame.image for frame in open_frames(path)]


def test_images_come_back_in_order_with_rate_and_colours(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 12.5) as video:
        for red in (50, 150, 250):
            video.write(plain(red))
    assert open_frames(tmp_path / "v.mp4").rate == 12.5
    images = read(tmp_path / "v.mp4")
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    for image, red in zip(images, (50, 150, 250), strict=True):
        assert image.reshape(-1, 3).mean(0) == pytest.approx((red, 0, 0), abs=10)


def test_odd_sizes_become_even_and_other_sizes_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 30) as video:
        for image in (plain(200, 47, 63), plain(200, 100, 20), plain(200, 47, 63)):
            video.write(image)
    images = read(tmp_path / "v.mp4")
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    assert all(image[..., 0].mean() == pytest.approx(200, abs=10) for image in images)


def test_a_video_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "v.mp4"
    video = VideoWriter(path, 30)
    with pytest.raises(InputError, match="nowhere/v.mp4 cannot be written as a video"), video:
        video.write(plain(1))


def test_a_video_that_lost_its_end_is_removed(tmp_path: Path) -> None:
    """As where a quota is used up, of which nothing tells before."""

    class Cut:
        def release(self) -> None:
            writer.release()
            content = (tmp_path / "v.mp4").read_bytes()
            (tmp_path / "v.mp4").write_bytes(content[:-10])

    video = VideoWriter(tmp_path / "v.mp4", 30)
    video.write(plain(200))
    assert video._writer is not None
    writer, video._writer = video._writer, Cut()  # type: ignore[assignment]
    with pytest.raises(OSError, match=r"No space left on device: .*v\.mp4"):
        video.close()
    assert not (tmp_path / "v.mp4").exists()


def test_without_images_there_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 30):
        pass
    assert not (tmp_path / "v.mp4").exists()


def test_images_may_be_views_that_cannot_be_written_to(tmp_path: Path) -> None:
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[..., 0] = 100
    wide.setflags(write=False)
    with VideoWriter(tmp_path / "v.mp4", 30) as video:
        video.write(wide[:, ::2])
    (image,) = read(tmp_path / "v.mp4")
    assert image.shape == (48, 64, 3) and image[..., 0].mean() == pytest.approx(100, abs=10)
