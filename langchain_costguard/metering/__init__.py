"""The plane that refuses: what a call costs, what may be spent, what was. It never changes a request."""
