"""The mistakes that a new user is most likely to make, really made, and what the user is told.

    python test/support/mistakes.py            makes them all and prints the table
    python test/support/mistakes.py --write    puts it into docs/reliability.md

in the project's shell (`. scripts/env.sh`), as the messages of the table are those of ROS 2 from
wheels, without a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

if __name__ == "__main__":  # pytest has it from pyproject.toml
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ros"))

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

import ros_fixtures  # noqa: F401  keeps all on this machine
from harness import header, street
from mistake_scene import PATIENCE, Scene, scene
from node_process import ROOT
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt

DOCUMENT = ROOT / "docs" / "reliability.md"
HEADER = "| mistake | what is typed or done | what is said |\n|---|---|---|\n"
SHOWN = 500
"""Characters of a message in the table."""


def depth() -> Image:
    return image_message(np.zeros((120, 160), np.uint16), "16UC1", header(0))


def jpeg() -> CompressedImage:
    data = cv2.imencode(".jpg", street()[..., ::-1])[1].tobytes()
    return CompressedImage(header=header(0), format="jpeg", data=data)


def silent_camera(scene: Scene) -> str:
    scene.ros.node("camera").create_publisher(Image, "image", qos_profile_sensor_data)
    return scene.complaint()


def wrong_topic(scene: Scene) -> str:
    scene.camera("camera/image_raw")
    return scene.complaint()


def wrong_transport(scene: Scene) -> str:
    other = RosSession()  # one DDS participant cannot have two types on one topic
    try:
        Scene(other, scene.folder).camera("image", jpeg())
        return scene.complaint()
    finally:
        other.close()


def wrong_qos(scene: Scene) -> str:
    """The first to speak is the middleware."""
    scene.camera("image")
    return scene.complaint("-p", "input_reliability:=reliable", number=2)


def wrong_encoding(scene: Scene) -> str:
    scene.camera("image", depth())
    return scene.complaint()


def camera_without_stamps(scene: Scene) -> str:
    scene.camera("image", stamped=False)
    return scene.complaint()


def two_cameras_on_one_topic(scene: Scene) -> str:
    """What diagnostics say of it, beside how often the size changed until then."""
    scene.camera("image")
    scene.camera("image", image_message(street(320, 240), "rgb8", header(0)), name="other_camera")
    told: list[str] = []
    scene.ros.node("ears").create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.append(m.status[0].message), 10
    )
    node = scene.node()

    def crowds() -> list[str]:
        notices = [notice for message in told for notice in message.split("; ")]
        return [n for n in notices if "publishers" in n and "(unnamed)" not in n]

    scene.ros.wait_until(crowds, lambda: f"a word; {told[-5:]} {node.log}")
    return crowds()[0]


def two_nodes_of_one_name(scene: Scene) -> str:
    """Either of them may say it."""
    scene.camera("image")
    nodes = [scene.node(), scene.node()]
    scene.ros.wait_until(
        lambda: any(node.complaints() for node in nodes), lambda: f"a word; {nodes[1].log}"
    )
    return next(node.complaints()[0] for node in nodes if node.complaints())


def prompt_before_the_first_image(scene: Scene) -> str:
    node = scene.node()
    scene.ros.wait_until(lambda: "active: " in node.log, "an active node", PATIENCE)
    client = scene.ros.node("user").create_client(AddPrompt, "/vss/add_prompt")
    answer = scene.ros.call(client, AddPrompt.Request(points=[80.0, 60.0], point_labels=[1]))
    assert not answer.success
    return str(answer.message)


def parameter_file_with_a_tab(scene: Scene) -> str:
    path = scene.folder / "vss.yaml"
    path.write_text("vss:\n  ros__parameters:\n\tmodel: mobile\n")
    node = scene.node("--params-file", str(path))
    scene.ros.wait_until(lambda: not node.running, "the end of the node", PATIENCE)
    return " ".join(node.log.split())


def truncated_checkpoint(scene: Scene) -> str:
    weights = (ROOT / "sam2vss_ros/weights/mobile.safetensors").read_bytes()
    path = scene.folder / "mobile.safetensors"
    path.write_bytes(weights[: len(weights) // 2])
    return scene.complaint("-p", f"checkpoint:={path}")


def another_distribution(scene: Scene) -> str:
    here = (ROOT / ".venv/ros").read_text(encoding="utf-8").strip()
    other = "humble" if here != "humble" else "jazzy"
    return scene.shell(f". {ROOT}/scripts/env.sh", ROS_DISTRO=other)


def nothing_set_up(scene: Scene) -> str:
    (scene.folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/env.sh", scene.folder / "scripts")
    return scene.shell(". scripts/env.sh")


def labels_of_other_images(scene: Scene) -> str:
    for folder, name in (("images", "a_0.png"), ("labels", "b_0.png")):
        (scene.folder / folder).mkdir()
        cv2.imwrite(str(scene.folder / folder / name), np.zeros((64, 64), np.uint8))
    return scene.command(
        "evaluate", "--images", "images", "--labels", "labels", "--classes", "camvid"
    )


@dataclass(frozen=True)
class Mistake:
    """typed: what the user types or does. make: makes the mistake, and returns what is said.
    says: words that the message must have."""

    what: str
    typed: str
    make: Callable[[Scene], str]
    says: Sequence[str]


def started_with(*arguments: str) -> Callable[[Scene], str]:
    return lambda scene: scene.complaint(*arguments)


def called_with(*arguments: str) -> Callable[[Scene], str]:
    return lambda scene: scene.command(*arguments)


MISTAKES = [
    Mistake(
        "wrong topic",
        "the camera publishes on `/camera/image_raw`, the node is not remapped",
        wrong_topic,
        ("nobody publishes on /image", "/camera/image_raw"),
    ),
    Mistake(
        "no images",
        "the driver runs, the camera is not plugged in",
        silent_camera,
        ("no image for 5 s", "is the camera running"),
    ),
    Mistake(
        "wrong transport",
        "the topic holds `CompressedImage`, `image_transport` is `raw`",
        wrong_transport,
        ("sensor_msgs/msg/CompressedImage", "image_transport"),
    ),
    Mistake(
        "wrong QoS",
        "`-p input_reliability:=reliable`, the camera is best effort",
        wrong_qos,
        ("QoS", "input_reliability"),
    ),
    Mistake(
        "wrong encoding",
        "a depth camera's image on `image`",
        wrong_encoding,
        ("16UC1", "rgb8"),
    ),
    Mistake(
        "two cameras on one topic",
        "both drivers publish on `/image` (the message is that of `/diagnostics`)",
        two_cameras_on_one_topic,
        ("2 publishers", "/image"),
    ),
    Mistake(
        "a camera that never stamps",
        "every header's stamp is 0",
        camera_without_stamps,
        ("stamp", "arrival"),
    ),
    Mistake(
        "two nodes of one name",
        "`ros2 run sam2vss_ros vss_node` in two terminals",
        two_nodes_of_one_name,
        ("/vss", "__node"),
    ),
    Mistake(
        "typo in a parameter",
        "`-p modle:=mobile`",
        started_with("-p", "modle:=mobile"),
        ("modle", "do you mean model"),
    ),
    Mistake(
        "wrong value of a parameter",
        "`-p mode:=best`",
        started_with("-p", "mode:=best"),
        ("mode: 'best'", "refine, classify, fused"),
    ),
    Mistake(
        "parameter file that is no YAML",
        "`--params-file vss.yaml`, with a tab in it",
        parameter_file_with_a_tab,
        ("vss.yaml", "line 3"),
    ),
    Mistake(
        "missing class file",
        "`-p classes:=my_classes.yaml`, from another folder",
        started_with("-p", "classes:=my_classes.yaml"),
        ("my_classes.yaml", "camvid, cityscapes"),
    ),
    Mistake(
        "class file of other classes",
        "`-p classes:=cityscapes`, the semantics are `street`",
        started_with("-p", "classes:=cityscapes"),
        ("classes: cityscapes has 19 classes", "11"),
    ),
    Mistake(
        "missing weights",
        "`-p model:=sam2.1_hiera_tiny`, not fetched before",
        started_with("-p", "model:=sam2.1_hiera_tiny"),
        ("sam2.1_hiera_tiny.pt", "sam2vss models --fetch sam2.1_hiera_tiny"),
    ),
    Mistake(
        "checkpoint cut off while it was copied",
        "`-p checkpoint:=mobile.safetensors`",
        truncated_checkpoint,
        ("mobile.safetensors", "truncated"),
    ),
    Mistake(
        "no GPU", "`-p device:=cuda`", started_with("-p", "device:=cuda"), ("device: 'cuda'", "cpu")
    ),
    Mistake(
        "prompt before the first image",
        "`ros2 service call /vss/add_prompt ...` on a node without a camera",
        prompt_before_the_first_image,
        ("no image has come yet",),
    ),
    Mistake(
        "wrong ROS 2 sourced",
        "`. scripts/env.sh` beside another distribution than at `scripts/setup`",
        another_distribution,
        ("was set up for ROS 2", "scripts/setup"),
    ),
    Mistake(
        "nothing set up",
        "`. scripts/env.sh` in a fresh clone",
        nothing_set_up,
        ("nothing is set up yet", "scripts/setup"),
    ),
    Mistake(
        "video that is not there",
        "`sam2vss run drvie.mp4 --out results`",
        called_with("run", "drvie.mp4", "--out", "results"),
        ("drvie.mp4",),
    ),
    Mistake(
        "labels of other images",
        "`sam2vss evaluate --images images --labels labels --classes camvid`",
        labels_of_other_images,
        ("a_0", "labels"),
    ),
    Mistake(
        "typo in the name of a class file",
        "`sam2vss evaluate --images images --labels labels --classes cityscape`",
        called_with("evaluate", "--images", ".", "--labels", ".", "--classes", "cityscape"),
        ("cityscape", "camvid, cityscapes"),
    ),
]


def make(mistake: Mistake) -> str:
    """Make a mistake; what is said, with the places of this machine told as a user's."""
    with scene() as place:
        try:
            said = mistake.make(place)
        except pytest.fail.Exception:  # waited in vain
            said = "nothing"
        said = re.sub(r"\[[A-Z]+\] \[[\d.]+\] \[[\w.]+\]: ", "", said)  # of the log
        return said.replace(str(place.folder), "~").replace(str(ROOT), "~/sam2vss_ros")


def row(mistake: Mistake, said: str) -> str:
    """A line of the table."""
    shown = said if len(said) <= SHOWN else f"{said[:SHOWN]} ..."
    cells = (mistake.what, mistake.typed, shown.replace("|", r"\|"))
    return f"| {' | '.join(cells)} |\n"


def write(table: str) -> None:
    """Put the table into the document, in the place of the one that is there."""
    before, found, after = DOCUMENT.read_text(encoding="utf-8").partition(HEADER)
    assert found, f"{DOCUMENT} has no such table"
    rest = itertools.dropwhile(lambda line: line.startswith("|"), after.splitlines(keepends=True))
    DOCUMENT.write_text(before + table + "".join(rest), encoding="utf-8")


def main() -> None:
    """Make all mistakes; print the table or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    into_document = parser.parse_args().write
    table = HEADER
    for mistake in MISTAKES:
        table += row(mistake, make(mistake))
        print(table.splitlines()[-1], flush=True)
    if into_document:
        write(table)


if __name__ == "__main__":
    main()
