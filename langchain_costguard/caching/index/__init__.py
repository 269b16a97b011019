"""Where a semantic cache finds the nearest of its questions: in this process, in a file, or in Redis."""
