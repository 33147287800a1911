"""A thousand wrong and right values of parameters, given to a live node."""

from __future__ import annotations

import random
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from harness import Harness, Start
from resident import memory_back_to_its_level
from sam2vss_ros.config import OPTIONS

EXTREME: list[Any] = [
    *(0, 1, -1, 3, 255, 256, 65535, 65536, 2**31, 2**62, -(2**63)),
    *(0.0, -0.5, 0.5, 1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan")),
    *(
        True,
        False,
        "",
        "auto",
        "off",
        "false",
        "1",
        "cuda:99",
        "x" * 100_000,
        "a\nb",
        "\u202e",
        "🚙",
    ),
    *("/", "/dev/zero", "/proc/self/mem", "~", "..", "$(id)", "%s%n", "{}", "http://127.0.0.1:9/"),
    *([1, 2], [0.5], [True], ["front"], ["front", "front"], ["a b"], ["x" * 5000], [b"\x00"]),
]


def set_one_by_one(bench: Harness, pairs: list[tuple[str, Any]]) -> list[Any]:
    """The results of setting these, in one request."""
    client = bench.ears.create_client(SetParameters, "/vss/set_parameters")
    messages = [Parameter(name, value=value).to_parameter_msg() for name, value in pairs]
    results = bench.ros.call(client, SetParameters.Request(parameters=messages)).results
    bench.ears.destroy_client(client)
    return list(results)


def check_answers(pairs: list[tuple[str, Any]], results: list[Any]) -> int:
    """Every refusal says which parameter, in a short line. Returns how many there are."""
    assert len(results) == len(pairs)
    refused = [
        (name, result.reason)
        for (name, _), result in zip(pairs, results, strict=True)
        if not result.successful
    ]
    for name, reason in refused:
        assert name in reason, f"{name}: {reason}"
        assert len(reason) < 1000 and len(reason.splitlines()) == 1, reason
    return len(refused)


def test_values_of_parameters_while_it_runs(start: Start) -> None:
    bench = start()
    labels = bench.record("/vss/label_image", Image)
    bench.active().send(0)
    bench.wait_for_answer(labels, 0)
    choice = random.Random(6).choice
    names, refused, given = list(OPTIONS), 0, 0
    with memory_back_to_its_level(30):
        for _ in range(25):
            pairs = [(choice(names), choice(EXTREME)) for _ in range(40)]
            given += len(pairs)
            refused += check_answers(pairs, set_one_by_one(bench, pairs))
    assert given == 1000 and 500 < refused < 1000
    live = {name: default for name, (default, option) in OPTIONS.items() if option.live}
    assert all(result.successful for result in bench.set(**live))
    bench.send(100)
    answer = bench.wait_for_answer(labels, 100)
    assert (answer.width, answer.height) == (labels[0].width, labels[0].height)
    assert "Traceback" not in bench.log
    assert max(map(len, bench.log.splitlines())) < 1000


def test_values_of_parameters_at_the_start(start: Start) -> None:
    """Wrong ones of every kind at once: each is told in short, and the node waits."""
    wrong: dict[str, Any] = {
        "mode": "x" * 100_000,
        "max_objects": -(2**63),
        "min_area": float("nan"),
        "classes": [7] * 1000,
        "cameras": ["front", "front"],
    }
    bench = start(camera_qos=None, **wrong)
    bench.wait_for_log("cannot configure")
    told = bench.log
    assert all(f"{name}: " in told for name in wrong), told
    assert len(told) < 1000 and "Traceback" not in told
    assert bench.state() == "unconfigured"
