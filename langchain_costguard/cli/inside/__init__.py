"""What of ``costguard run`` and ``doctor`` happens inside the Python processes of the program itself."""
