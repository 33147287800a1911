"""Tracking by affinity: an ImageNet trunk's features, compared from frame to frame, carry masks.

Keys belong to frames and only soft masks to objects, so that one comparison of two frames serves
every object of a stream. Nothing here was trained on video.
"""
