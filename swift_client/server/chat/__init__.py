"""OpenAI's chat completions: requests, replies and streams as pure functions."""
