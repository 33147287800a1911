"""Domains of one's own and traffic that stays on the machine."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sam2vss_ros.ros import loopback
from sam2vss_ros.ros.loopback import LOCK_PORT, loopback_environment, reserve_domain

NAMESPACE = "{http://www.eprosima.com}"


def test_no_domain_is_given_twice_until_it_is_free_again() -> None:
    first, first_lock = reserve_domain()
    second, second_lock = reserve_domain()
    with first_lock, second_lock:
        assert first != second
        program = "from sam2vss_ros.ros.loopback import *; print(reserve_domain()[0])"
        output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        assert int(output.stdout) not in (first, second)
    third, third_lock = reserve_domain()
    with third_lock:
        assert third <= first


def test_all_domains_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    domain, lock = reserve_domain()
    with lock:
        assert lock.getsockname() == ("127.0.0.1", LOCK_PORT + domain)
        monkeypatch.setattr(loopback, "DOMAINS", range(domain, domain + 1))
        with pytest.raises(RuntimeError, match="all in use"):
            reserve_domain()


def test_fast_dds_listens_on_the_loopback_interface_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    profile = Path(loopback_environment()["FASTDDS_DEFAULT_PROFILES_FILE"])
    root = ElementTree.parse(profile).getroot()
    assert [e.text for e in root.iter(f"{NAMESPACE}address")] == ["127.0.0.1"]
    assert [e.text for e in root.iter(f"{NAMESPACE}useBuiltinTransports")] == ["false"]
    segment = next(root.iter(f"{NAMESPACE}segment_size"))
    assert int(segment.text or 0) > 2 * 1920 * 1080 * 3


@pytest.mark.parametrize(
    "distribution, also_old_name", [("humble", True), ("jazzy", True), ("kilted", False)]
)
def test_fast_dds_2_gets_the_profile_under_its_old_name(
    monkeypatch: pytest.MonkeyPatch, distribution: str, also_old_name: bool
) -> None:
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("ROS_DISTRO", distribution)
    assert ("FASTRTPS_DEFAULT_PROFILES_FILE" in loopback_environment()) == also_old_name


def test_other_middleware_is_told_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    environment = loopback_environment()
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environment
