"""Commands that say which stored answers are right: by reference answers, or by people."""
