"""Files of stored questions: each divides itself into tasks, which workers read and rank."""
