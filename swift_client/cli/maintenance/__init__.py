"""Commands that keep heads and samples files right over the months: drift, new heads, retention."""
