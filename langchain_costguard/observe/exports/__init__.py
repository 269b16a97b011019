"""What was spent, in the shapes that other platforms take."""
