"""What was spent, told to people and programs."""
