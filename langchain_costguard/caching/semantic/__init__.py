"""Answers to questions that come to the same, and what speaks against taking two questions for one."""
