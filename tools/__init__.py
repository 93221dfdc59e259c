"""Tools that make parts of the package; no wheel contains them."""
