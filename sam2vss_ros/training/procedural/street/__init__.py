"""A street in metres: what stands and moves on it, and its picture from a camera that drives along.

The street runs along z. It is made lot by lot ahead of the camera and forgotten behind it, so a
drive of any length needs constant memory. Everything on it is painted far to near.
"""
