"""The page of a spend log, served: live, with filters and the brake."""
