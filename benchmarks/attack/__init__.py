"""How well robust rules keep training sound where 2 of 10 clients are hostile, in named ways."""
