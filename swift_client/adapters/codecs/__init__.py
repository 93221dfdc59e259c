"""Wire formats: each codec turns a request into JSON and reply bytes into completions."""
