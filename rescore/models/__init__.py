"""The network, its tokenizer and checkpoint format, adapters for Hub models, and the embedded default models."""
