"""Real rclpy in a domain of its own on the loopback interface, for test/ros and test/faults."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sam2vss_ros.ros.loopback import loopback_environment, reserve_domain

# Before rclpy is imported: no test may see another, and nobody outside may see them.
DOMAIN_ID, _domain_lock = reserve_domain()
os.environ.update(loopback_environment(), ROS_DOMAIN_ID=str(DOMAIN_ID))

try:
    import sam2vss_ros.msg  # noqa: F401
    from ros_session import RosSession
except ImportError as error:
    raise pytest.UsageError(
        f"test/ros and test/faults need `. scripts/env.sh` first ({error})"
    ) from error


@pytest.fixture
def ros() -> Iterator[RosSession]:
    """A running session; ends after the test."""
    session = RosSession()
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def start(ros: RosSession, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Starts the real node between a camera and ears: a `Harness` with these parameters."""
    from harness import Harness

    return functools.partial(Harness, ros, capfd)
