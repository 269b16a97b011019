"""Made-up worlds, by rules that can be read: what people ask, how well models answer, and when."""
