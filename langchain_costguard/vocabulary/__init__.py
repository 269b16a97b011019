"""The words everything else is said in: money, usage, who is spending, errors, intervals. Knows no other room."""
