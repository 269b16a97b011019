"""``costguard doctor``: proves, in trials of the user's own program, that the guard binds there."""
