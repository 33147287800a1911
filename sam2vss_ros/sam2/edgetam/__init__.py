"""EdgeTAM (Meta, arXiv 2501.07256): a SAM 2 with a RepViT trunk and memories squeezed to latents.

What it shares with SAM 2 is built from the `sam2` package's classes and run by the same engine.
"""
