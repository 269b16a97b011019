"""LangChain's doors: the only files of the metering plane that know the host."""
