"""DDS that stays on this machine: what the demo and the tests run in.

Imports no ROS, because the settings only count when made before rclpy starts.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

PROFILE = Path(__file__).with_name("loopback.xml")
DOMAINS = range(1, 101)
LOCK_PORT = 22119


def loopback_environment() -> dict[str, str]:
    """Environment variables that keep all DDS traffic on the loopback interface."""
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        settings = {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",  # LOCALHOST would undo the profile
            "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),
        }
        if os.environ.get("ROS_DISTRO") in ("humble", "jazzy"):  # the name that Fast DDS 2 knows
            settings["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
        return settings
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_LOCALHOST_ONLY": "1"}


def reserve_domain() -> tuple[int, socket.socket]:
    """A ROS domain id that no other caller on this machine holds, and the lock that holds it.

    The domain is reserved until the socket is closed, at the latest when the process ends.
    Raises RuntimeError where all are taken.
    """
    for domain in DOMAINS:
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", LOCK_PORT + domain))
            return domain, lock
        except OSError:
            lock.close()
    raise RuntimeError(f"ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all in use on this machine")
