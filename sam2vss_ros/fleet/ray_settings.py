"""Settings of Ray, which it reads from the environment as it is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sam2vss_ros.errors import needs_extra

if TYPE_CHECKING:
    from sam2vss_ros.fleet.ray_workers import RayWorkers


def open_ray(address: str, workers: int, cpus: int, gpus: float | None, retries: int) -> RayWorkers:
    """RayWorkers, which see. The first call of a process decides for all whether Ray keeps to this
    machine. Raises InputError where Ray is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    # Workers that ask for no GPU see none, on every version of Ray.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    if not address or address.startswith(("127.", "localhost:")):
        # Or else Ray listens on all interfaces, whatever address it is given.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with needs_extra("fleet"):
        from sam2vss_ros.fleet.ray_workers import RayWorkers
    return RayWorkers(address, workers, cpus, gpus, retries)
