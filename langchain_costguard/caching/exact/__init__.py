"""Exact answers: the same question, the same answer; in this process, in a file, in Redis or in PostgreSQL."""
