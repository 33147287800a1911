"""The stages of a frame, one file each, in the order of `VssPipeline.process`: features, track,
discover, classify, decide, compose. Each is given what it needs; none reaches for the pipeline."""
