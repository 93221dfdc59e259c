"""The canary: fixed questions to a model from time to time, and a comparison of its answers with earlier ones."""
