"""Small streams on disk for the commands, and the command itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2vss_ros.cli import main

WIDTH, HEIGHT = 160, 120


def street(index: int, hue: int) -> np.ndarray:
    """(H, W, 3) RGB: sky above, road below, and a box that drives to the right."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:50], image[50:] = (150, 190, 230), (90, 90, 95)
    image[40:80, 10 + 6 * index : 60 + 6 * index] = (hue, 40, 40)
    return image


def write_folders(root: Path) -> dict[str, Path]:
    """Images of two streams, `a_0.png`... and `b_0.png`..., each also in a folder of its own."""
    for name, hue in (("a", 200), ("b", 120)):
        for folder in (root / name, root / "both"):
            folder.mkdir(exist_ok=True)
            for i in range(4):
                Image.fromarray(street(i, hue)).save(folder / f"{name}_{i}.png")
    return {name: root / name for name in ("a", "b", "both")}


def write_video(path: Path) -> Path:
    """Six frames, 20 a second."""
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 20.0, (WIDTH, HEIGHT))
    for i in range(6):
        writer.write(street(i, 200)[:, :, ::-1].copy())
    writer.release()
    return path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


WITHOUT_LIBRARIES = (
    "import sys\n"
    "for library in sys.argv[1].split(','): sys.modules[library] = None\n"
    "from sam2vss_ros.cli import main\n"
    "sys.exit(main(sys.argv[2:]))\n"
)
