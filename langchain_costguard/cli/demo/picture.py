"""A scene as a picture: SVG, in the colours of a dark terminal, legible on a light page and on a dark one."""

from __future__ import annotations

from rich.console import Console
from rich.terminal_theme import TerminalTheme

MARK = "<!-- costguard demo -->"
"""By which a picture is known for one of ours."""
WIDTH = 60
"""Columns: a phone shows them all, each letter ten pixels high."""

_FORMAT = """\
<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">
MARK
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }}
.{unique_id}-title {{ font: 16px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("MARK", MARK)
"""Rich's own, without the fonts that it fetches from elsewhere: a page's pictures may not fetch anything.
https://rich.readthedocs.io/en/stable/reference/console.html#rich.console.Console.export_svg"""

_NORMAL = [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)]
_BRIGHT = [(139, 148, 158), (255, 161, 152), (86, 211, 100), (227, 179, 65)]
_REST = [(88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)]
_THEME = TerminalTheme((13, 17, 23), (230, 237, 243), _NORMAL + _REST, _BRIGHT + _REST)


def recorder(title: str) -> Console:
    """A console as wide as the picture, which remembers what it printed, colours and all."""
    made = Console(record=True, width=WIDTH, markup=False, highlight=False)
    made.print(f"$ {title}", style="bright_black")
    return made


def draw(recorded: Console, title: str) -> str:
    """All that was printed, as SVG."""
    return recorded.export_svg(title=title, theme=_THEME, code_format=_FORMAT, unique_id="demo")
