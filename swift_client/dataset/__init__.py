"""Questions, grading, splits, and samples files as groups of labelled completions."""
