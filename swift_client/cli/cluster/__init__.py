"""``--ray``: the parts of ``collect``, ``best-of`` and ``rank`` that work on a Ray cluster."""
