"""Fetch Meta's weights, when the user asks for it, and check that they are Meta's."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from sam2vss_ros.errors import ModelUnavailableError, reason_of
from sam2vss_ros.sam2.cards import ModelCard
from sam2vss_ros.sam2.weights import existing_weights, fetched_folder, find_weights

log = logging.getLogger(__name__)

BLOCK = 1 << 20

SILENCE = 30.0
"""Seconds without a byte after which fetching is given up."""


def fetch_weights(card: ModelCard) -> Path:
    """The path of a model's weights: those on this machine, else Meta's, downloaded.

    Size and SHA-256 are those of the card, or nothing is kept. $HF_ENDPOINT names a mirror of the
    Hugging Face hub. Raises ModelUnavailableError saying why this failed and what to do instead, or
    that a file with Meta's name is another one.
    """
    if not card.hub_id:
        return existing_weights(card)
    found = find_weights(card)
    if found is not None:
        _check(card, found, f"remove {found} and fetch again, or name it as `checkpoint`")
        return found
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{card.hub_id}/resolve/main/{card.file}"
    folder = fetched_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written aside, so that a file with Meta's name is always whole.
        handle, name = tempfile.mkstemp(prefix=f".{card.file}.", dir=folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _download(card, url, file.write)
            _check(card, part, f"nothing was kept of what {url} sent")
            part.chmod(0o644)
            part.replace(folder / card.file)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError) as error:  # network, disk and address
        raise ModelUnavailableError(
            f"model {card.name}: {card.file} could not be fetched from {url} ({reason_of(error)}); "
            f"nothing was kept. Copy it from elsewhere to {folder}, or go on with the embedded "
            "model: mobile"
        ) from error
    return folder / card.file


def _download(card: ModelCard, url: str, write: Callable[[bytes], object]) -> None:
    """Hand a file over in blocks, at most one more than the card says. Raises OSError."""
    log.info("fetching %s, %.0f MB", url, card.file_bytes / 1e6)
    received = 0
    with (
        urllib.request.urlopen(url, timeout=SILENCE) as answer,
        tqdm(total=card.file_bytes, unit="B", unit_scale=True, disable=None, leave=False) as bar,
    ):
        while received <= card.file_bytes and (block := answer.read(BLOCK)):
            write(block)
            received += len(block)
            bar.update(len(block))


def _check(card: ModelCard, path: Path, advice: str) -> None:
    """Raise ModelUnavailableError where a file is not the one of the card."""
    size = path.stat().st_size
    if size != card.file_bytes:
        raise ModelUnavailableError(
            f"model {card.name}: {card.file} has {card.file_bytes} bytes, not {size}: {advice}"
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != card.sha256:
        raise ModelUnavailableError(
            f"model {card.name}: the SHA-256 of {card.file} is {card.sha256}, not "
            f"{digest.hexdigest()}: {advice}"
        )
