"""Questions that SmolLM2-135M answers sometimes, and its weights in other formats."""
