"""The pictures of README and site are made of what the pipeline answers."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from sam2vss_ros.demo import showcase


def test_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), "--begin", "2", "--frames", "4"]
    monkeypatch.setattr(sys, "argv", ["pictures", *arguments])
    showcase.main()
    assert str(tmp_path) in capsys.readouterr().out

    still = np.asarray(Image.open(tmp_path / "street.jpg"), int)
    height, width = 4 + 2 * 364, 4 + 2 * 484  # four cells of 480 x 360 and the gaps around them
    assert still.shape[1] == width and still.shape[0] > height  # the legend is below
    labels = still[368 : 368 + 360, 4 : 4 + 480]
    sky, road = labels[20, 240], labels[340, 240]  # in the colours of their classes
    assert abs(sky - (128, 128, 128)).max() < 12
    assert abs(road - (128, 64, 128)).max() < 12
    objects = still[4 : 4 + 360, 488 : 488 + 480]
    assert (objects.max(-1) > 200).any() and (objects[:90].max(-1) < 40).all()

    with Image.open(tmp_path / "street.webp") as clip:
        assert (len(list(ImageSequence.Iterator(clip))), clip.size) == (2, (800, 300))
        assert clip.info["loop"] == 0
        clip.seek(0)
        first = np.asarray(clip.convert("RGB"), int)
    assert abs(first[:, :400] - first[:, 400:]).mean() > 10  # the right half is drawn over


def test_those_of_the_package_are_small(root: Path) -> None:
    for name in ("street.jpg", "street.webp"):
        data = (root / "docs" / name).read_bytes()
        Image.open(io.BytesIO(data)).verify()
        assert len(data) <= 1_500_000


@pytest.mark.parametrize("option", [["--begin", "-1"], ["--frames", "0"]])
def test_mistakes(
    option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pictures", *option])
    with pytest.raises(SystemExit):
        showcase.main()
    assert "begin is 0 or more, frames 1 or more" in capsys.readouterr().err
