"""``make release``: build the wheels and the sdist, check them, install them elsewhere and run the demo.

Nothing is published or tagged: ``.github/workflows/release.yml`` does that, after this.
"""
