"""What lies on disks in the place of weights: pointers of git-lfs, web pages, nothing."""

from __future__ import annotations

from pathlib import Path

BEGIN = 512
"""Bytes of a file that tell what it is."""


def stand_in(path: Path) -> str:
    """What a file is, where it only stands for weights, and what to do; empty: it may be some.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(BEGIN)
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not begin:
        return "it is empty"
    if begin.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer: `git lfs pull` in its repository gets the file itself"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page (HTML): the download did not get the file itself"
    if begin.startswith(b"\x1f\x8b"):
        return "it is compressed (gzip): unpack it first"
    return ""
