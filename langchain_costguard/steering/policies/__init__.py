"""Rules that look at what an agent does and say what to make of it. Pure: no clock, no I/O, no memory of their own."""
