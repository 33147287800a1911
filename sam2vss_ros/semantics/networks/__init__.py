"""Segmentation networks of approach 1, behind one small interface."""
