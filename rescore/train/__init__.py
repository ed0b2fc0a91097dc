"""Text to batches to checkpoint: a plain trainer for the three objectives."""
