"""Log-probabilities: cleaning, validity checks, goodness of fit, temperature."""
