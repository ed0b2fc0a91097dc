"""Text to batches to checkpoint: a plain trainer for networks, and Kneser-Ney for n-grams."""
