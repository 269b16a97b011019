"""A server of tools by the Model Context Protocol, for ``check_hosts.py``."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("sums")


@server.tool()
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("it is broken")


if __name__ == "__main__":
    server.run()
