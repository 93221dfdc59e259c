"""Tools that make the packaged model (tokenizer, training, export, parity, evaluation). Not part of the package."""
