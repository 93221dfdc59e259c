"""The choice of a winner from scores and answers."""
