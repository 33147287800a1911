"""What strangers send is named in a line, never repeated: answers, logs, diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import CAR_BOX, Harness, Start, header, street
from network_samples import NAMES, write_classes
from ros_session import RosSession
from sam2vss_ros.errors import LONGEST_MESSAGE
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

LONG = "\x1b[31mboo\n" * 100_000
"""A megabyte that would clear a terminal."""


def assert_short(text: str) -> None:
    assert text and len(text) <= LONGEST_MESSAGE
    assert "\n" not in text and "\x1b" not in text


def log_lines(bench: Harness) -> list[str]:
    return [line for line in bench.log.splitlines() if "boo" in line]


def test_a_class_name_of_a_megabyte(ros: RosSession, start: Start) -> None:
    bench = start().active()
    client = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    answer = ros.call(client, AddPrompt.Request(box=CAR_BOX, class_name=LONG))
    assert not answer.success
    assert_short(answer.message)
    assert answer.message.startswith("no class '\\x1b[31mboo")
    assert answer.message.endswith("Bicyclist")


def test_an_encoding_of_a_megabyte(start: Start) -> None:
    bench = start().active()
    message = image_message(street(), "rgb8", header(0))
    message.encoding = LONG
    bench.send(0, message)
    bench.wait_for_value("failed: unknown encoding", "1")
    bench.wait_for_log("frame skipped (unknown encoding")
    for line in log_lines(bench):
        assert len(line) < LONGEST_MESSAGE + 200, "with the name of the node and the time"
    status = bench.status()
    for text in (status.message, *(value.value for value in status.values)):
        assert_short(text)


@pytest.mark.parametrize("name", ["mode", "min_area"])
def test_a_parameter_of_a_megabyte(name: str, start: Start) -> None:
    (result,) = start().active().set(**{name: LONG})
    assert not result.successful
    assert_short(result.reason)
    assert result.reason.startswith(f"{name}: ")


def test_a_name_of_a_megabyte_at_the_start(start: Start) -> None:
    bench = start(classes=LONG)
    assert not bench.change("configure")
    bench.wait_for_log("cannot configure")
    for line in log_lines(bench):
        assert len(line) < LONGEST_MESSAGE + 200


class Stumbles(nn.Module):
    """Fails where the first pixel is white."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        if float(images[0, 0, 0, 0]) > 2:
            raise Exception("boo: a white pixel")
        return self.layer(images)


def test_a_network_that_fails_on_a_frame_is_told_in_a_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "stumbles.pt"
    torch.jit.script(Stumbles()).save(str(path))
    write_classes(tmp_path / "stumbles.yaml", *NAMES)
    options: dict[str, Any] = {"mode": "network", "network": str(path)}
    bench = start(**options).active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    white = street().copy()
    white[0, 0] = 255
    bench.send(100, image_message(white, "rgb8", header(100)))
    bench.wait_for_value("failed: network failed", "1")
    bench.wait_for_log(f"network: {path} fails on an image of 160x120: boo: a white pixel")
    assert "Traceback" not in bench.log
    bench.send(200)
    bench.wait_for_value("frames processed", "2")
