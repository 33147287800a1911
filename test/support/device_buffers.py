"""Bytes of a message that a GPU holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Buffer:
    """What `rosidl_buffer.Buffer` is to Python, by its stub file: no sequence, no buffer protocol.

    It stands in for it, since no wheel of Lyrical was at hand.
    """

    content: bytes
    backend_type: str = "cuda"
    copies: int = 0

    def to_bytes(self) -> bytes:
        self.copies += 1
        return self.content

    def __len__(self) -> int:
        return len(self.content)
