"""The inspector, pages at ``/ui`` that show why an answer was chosen.

``ring`` keeps the last selections in memory; ``stored`` reads those in samples files. Both give an ``Entry``. ``pages``
turns entries into HTML, ``session`` lets people in, and ``routes`` answers requests.
"""
