"""One policy as a flow each: what is done around a call to a model or a tool. Knows no seam."""
