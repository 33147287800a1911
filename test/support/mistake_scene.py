"""A place where mistakes are made: a folder, a camera, nodes and commands of this package."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile, qos_profile_sensor_data

from harness import header, street
from node_process import ROOT, NodeProcess
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message

PATIENCE = 40.0
"""Seconds until a node is taken to say nothing."""


class Scene:
    """Where mistakes are made: a folder with a few files, a camera, nodes of this package.

    Processes have the folder as their home, so that nothing of this machine's user is found.
    """

    def __init__(self, ros: RosSession, folder: Path) -> None:
        self.ros, self.folder = ros, folder
        self._environment = {"HOME": str(folder), "SAM2VSS_CHECKPOINTS": "", "HF_HOME": ""}
        self._nodes: list[NodeProcess] = []

    def node(self, *arguments: str) -> NodeProcess:
        """A node, started with these arguments after `--ros-args`."""
        node = NodeProcess("-p", "threads:=1", *arguments, environment=self._environment)
        self._nodes.append(node)
        return node

    def complaint(self, *arguments: str, number: int = 1) -> str:
        """The first warning or error of a node that is started so, or the first of this number."""
        node = self.node(*arguments)
        self.ros.wait_until(
            lambda: len(node.complaints()) >= number, lambda: f"a word; {node.log}", PATIENCE
        )
        return "; ".join(node.complaints()[:number])

    def camera(
        self,
        topic: str,
        message: Any = None,
        qos: QoSProfile = qos_profile_sensor_data,
        stamped: bool = True,
        name: str = "camera",
    ) -> None:
        """Publish `message` (None: the street) on a topic, ten times a second."""
        message = message or image_message(street(), "rgb8", header(0))
        node = self.ros.node(name)
        publisher = node.create_publisher(type(message), topic, qos)

        def publish() -> None:
            if stamped:
                message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)

        node.create_timer(0.1, publish)

    def command(self, *arguments: str) -> str:
        """What `sam2vss` says when it is called so."""
        return self._run(sys.executable, "-m", "sam2vss_ros.cli", *arguments)

    def shell(self, script: str, **environment: str) -> str:
        """What bash says to a script."""
        return self._run("bash", "-c", script, **environment)

    def _run(self, *command: str, **environment: str) -> str:
        path = os.pathsep.join([str(ROOT), *sys.path])
        run = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path} | self._environment | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert run.returncode != 0, f"{command} succeeds: {run.stdout}"
        return " ".join((run.stderr or run.stdout).split())

    def end(self) -> None:
        """End the nodes."""
        for node in self._nodes:
            node.kill()


@contextmanager
def scene() -> Iterator[Scene]:
    """A fresh place for a mistake."""
    with tempfile.TemporaryDirectory() as folder:
        ros = RosSession()
        place = Scene(ros, Path(folder))
        try:
            yield place
        finally:
            place.end()
            ros.close()
