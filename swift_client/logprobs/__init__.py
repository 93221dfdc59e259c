"""Log-probabilities: cleaning, checks and tests of fit."""
