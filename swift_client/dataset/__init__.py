"""Questions, labels, splits, and the samples files as training reads them."""
