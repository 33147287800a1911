"""What one camera remembers from frame to frame, and what users ask of it between two frames."""
