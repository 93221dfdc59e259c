"""OpenAI's Responses API: requests, replies and streams as pure functions."""
