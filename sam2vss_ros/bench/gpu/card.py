"""The card: what it is, and how fast it runs just now."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import torch

from sam2vss_ros.errors import one_line
from sam2vss_ros.threads import processors

READINGS = {
    "driver": "driver_version",
    "power_state": "pstate",
    "sm_mhz": "clocks.sm",
    "most_sm_mhz": "clocks.max.sm",
    "memory_mhz": "clocks.mem",
    "most_memory_mhz": "clocks.max.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "celsius": "temperature.gpu",
    "throttled": "clocks_throttle_reasons.active",
}
"""What is asked of the card, and how nvidia-smi calls it."""

PATIENCE = 20.0
"""Seconds that nvidia-smi has to answer."""


def describe(device: torch.device) -> dict[str, Any]:
    """The card, its driver and what runs on it; of a CPU only what holds of that."""
    about = {
        "device": f"CPU ({platform.machine()})",
        "cores": processors(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        "python": platform.python_version(),
    }
    if device.type != "cuda":
        return about
    card = torch.cuda.get_device_properties(device)
    return about | {
        "device": card.name,
        "capability": f"{card.major}.{card.minor}",
        "memory_mb": card.total_memory / 1e6,
        "multiprocessors": card.multi_processor_count,
        **readings(device),
    }


def readings(device: torch.device) -> dict[str, Any]:
    """Clocks, power and heat as nvidia-smi tells them now; `unread` says why there are none."""
    if device.type != "cuda":
        return {}
    return ask_nvidia_smi(_number_of(device))


def _number_of(device: torch.device) -> str:
    """How nvidia-smi calls the card: it counts also those that torch is not shown."""
    unique = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{unique}" if unique else str(device.index or 0)


def ask_nvidia_smi(card: str) -> dict[str, Any]:
    """The readings of a card, numbers where they are numbers."""
    fields = ",".join(READINGS.values())
    command = ["nvidia-smi", "-i", card, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"unread": one_line(error)}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if done.returncode or len(values) != len(READINGS):
        return {"unread": one_line(done.stderr or done.stdout or "nvidia-smi says nothing")}
    return dict(zip(READINGS, map(_number, values), strict=True))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
