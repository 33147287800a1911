"""The cameras of a run: their names, their files and their place in ROS."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Camera:
    """A camera that plays `source` and whose results are in `folder`.

    name: empty for the only camera of the demo. node: full name of the node that serves it. prefix:
    what that node puts before the camera's topics, empty or `front/`.
    """

    name: str
    source: Path
    folder: Path
    node: str = "/vss"
    prefix: str = ""

    @property
    def namespace(self) -> str:
        """Where the camera publishes its `image_raw` and `camera_info`."""
        return f"/{self.name or 'camera'}"


def several_cameras(sources: Sequence[Path], out: Path, separate: bool) -> list[Camera]:
    """A camera for each source, served by one node, or by one each if they are `separate`."""
    cameras = []
    for name, source in zip(camera_names(sources), sources, strict=True):
        node, prefix = (f"/{name}/vss", "") if separate else ("/vss", f"{name}/")
        cameras.append(Camera(name, source, out / name, node, prefix))
    return cameras


def camera_names(sources: Sequence[Path]) -> list[str]:
    """The files' names, made to be names in ROS and different from each other.

    Other characters become `_`, `camera_` goes before a digit, and what comes again is numbered.
    """
    names: list[str] = []
    for source in sources:
        name = re.sub(r"[^A-Za-z0-9]+", "_", source.stem).strip("_") or "camera"
        if name[0].isdigit():
            name = f"camera_{name}"
        unique, number = name, 1
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def node_command(cameras: Sequence[Camera], parameters: Sequence[str]) -> list[str]:
    """A node as a user starts it, its inputs connected to the cameras, which it serves all."""
    command = ["vss_node", "--ros-args"]
    namespace = cameras[0].node.rpartition("/")[0]
    if namespace:
        command += ["-r", f"__ns:={namespace}"]
    for camera in cameras:
        for topic, source in (("image", "image_raw"), ("camera_info", "camera_info")):
            command += ["-r", f"{camera.prefix}{topic}:={camera.namespace}/{source}"]
    for parameter in parameters:
        command += ["-p", parameter]
    if cameras[0].prefix:
        # Quoted, or else YAML takes a camera called `on` for a truth value.
        command += ["-p", f"cameras:={json.dumps([camera.name for camera in cameras])}"]
    return command
