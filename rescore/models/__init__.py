"""Networks, tokenizer, checkpoints, n-grams, Hub adapters, and the embedded models."""
