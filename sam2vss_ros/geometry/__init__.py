"""Depth to three dimensions: depth images in metres, objects with boxes, clouds with labels.

Coordinates are those of ROS's optical frames (REP 103): x to the right, y down, z away from the
camera, in metres.
"""
