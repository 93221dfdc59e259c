"""Drawing samples for training: one by one, by batch, or from stored replies."""
