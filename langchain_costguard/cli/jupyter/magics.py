"""``%%costguard`` and ``%costguard``: a cell, or the kernel from now on, under a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import rich_click as click
from click.shell_completion import split_arg_string
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class

from langchain_costguard.cli import options
from langchain_costguard.cli.jupyter.cell import Cell
from langchain_costguard.cli.run import number

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from langchain_costguard.guard import CostGuard
    from langchain_costguard.metering.seams.watching import watching

NAME = "costguard"


@magics_class
class CostGuardMagics(Magics):
    """The magics of one shell."""

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.kernel: CostGuard | None = None
        """The guard of the whole kernel, while one is attached."""
        self._watching: watching | None = None
        self._cells: list[tuple[Cell, watching | None]] = []
        self._depth = 0

    @line_cell_magic
    def costguard(self, line: str, cell: str | None = None) -> Any:
        """Budgets for cells and for the kernel::

            %%costguard --usd 0.10            this cell under a budget, its cost under it
            %costguard attach --usd 5         this kernel from now on; returns the guard
            %costguard attach guard           the same with a guard of your own
            %costguard report agent model     who spent what, by any dimension
            %costguard detach                 no longer

        Limits: --usd, --tokens, --model-calls, --tool-calls, --steps, --seconds; without one, it is metered only.
        """
        try:
            done = _command.main(split_arg_string(line), NAME, standalone_mode=False, obj=self)
        except click.UsageError as error:
            raise UsageError(f"%costguard: {error.format_message()}") from None
        except (click.ClickException, ValueError) as error:
            raise UsageError(f"%costguard: {error}") from None
        if cell is None:
            return done
        # Called by name, and not as the first line of a cell: see ``_as_a_line``.
        try:
            ran: Any = self.shell
            ran.run_cell(cell).raise_error()
        finally:
            self._end()
        return None

    def begin(self, guard: CostGuard) -> None:
        """Meter the cell that runs, and show what it costs."""
        from langchain_costguard.metering.seams.watching import watching

        shown = [cell for cell, watched in self._cells if watched is None]
        for cell in shown:  # the kernel's budgets go beside those of the cell
            cell.leave()
        self._cells = [(cell, watched) for cell, watched in self._cells if watched is not None]
        self._show(*filter(None, [guard, self.kernel]), watched=watching(guard))

    def attach(self, guard: CostGuard) -> None:
        """Meter the kernel from now on."""
        from langchain_costguard.metering.seams.watching import watching

        self.detach()
        self.kernel, self._watching = guard, watching(guard)
        self._show(guard)

    def detach(self) -> CostGuard | None:
        """Meter it no longer; the guard that did."""
        guard, self.kernel = self.kernel, None
        if self._watching is not None:
            self._watching.stop()
            self._watching = None
        return guard

    def before_cell(self, *_: Any) -> None:
        """A cell begins."""
        self._depth += 1
        if self._depth == 1 and self.kernel is not None:
            self._show(self.kernel)

    def after_cell(self, *_: Any) -> None:
        """A cell has ended, whatever way."""
        self._depth = max(0, self._depth - 1)  # that which loads us has not begun, by what we know
        if not self._depth:
            self._end()

    def _show(self, *guards: CostGuard, watched: watching | None = None) -> None:
        cell = Cell(*guards, live=hasattr(self.shell, "kernel"), always=watched is not None)
        self._cells.append((cell, watched))

    def _end(self) -> None:
        while self._cells:
            cell, watched = self._cells.pop()
            if watched is not None:
                watched.stop()
            cell.end()


@click.group(invoke_without_command=True)
@options.limits
@click.pass_context
def _command(context: click.RichContext, /, **limits: str | None) -> Any:
    """Put this cell under a budget, or with a command the kernel."""
    if context.invoked_subcommand is None:
        magics = cast("CostGuardMagics", context.obj)
        magics.begin(_guard("cell", limits, alone=magics.kernel is not None))
        return None
    if given := next((measure for measure, text in limits.items() if text is not None), None):
        command = context.invoked_subcommand
        raise ValueError(f"{options.flag_of(given)} comes after the command: %costguard {command} ...")
    return None


@_command.command()
@options.limits
@click.argument("name", metavar="[GUARD]", required=False)
@click.pass_obj
def attach(magics: CostGuardMagics, /, name: str | None, **limits: str | None) -> CostGuard:
    """Meter this kernel from now on: with a guard of your own, or with a new one under these limits."""
    from langchain_costguard.guard import CostGuard

    if name is not None and name not in magics.shell.user_ns:
        raise ValueError(f"attach: there is no {name} here")
    guard = _guard("kernel", limits) if name is None else magics.shell.user_ns[name]
    if not isinstance(guard, CostGuard):
        raise ValueError(f"attach: {name} is a {type(guard).__name__}, no CostGuard")
    if name is not None and any(limits.values()):
        raise ValueError(f"attach: {name} has its own budgets; give limits or a guard, not both")
    magics.attach(guard)
    return guard


@_command.command()
@click.pass_obj
def detach(magics: CostGuardMagics, /) -> None:
    """Meter the kernel no longer."""
    if magics.detach() is None:
        raise ValueError("detach: no guard is attached")


@_command.command()
@click.argument("dimensions", nargs=-1)
@click.pass_obj
def report(magics: CostGuardMagics, /, dimensions: tuple[str, ...]) -> Any:
    """Who spent what since the guard was attached."""
    if magics.kernel is None:
        raise ValueError("report: no guard is attached: %costguard attach")
    found = magics.kernel.report()
    return found.by(*dimensions) if dimensions else found


def _guard(name: str, limits: Mapping[str, str | None], *, alone: bool = False) -> CostGuard:
    """A guard with one account for all that it sees: no thread id or user that the code sets opens another."""
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.metering.budgets.budget import Budget
    from langchain_costguard.metering.stores.memory import MemoryStore

    given = {measure: number(measure, text) for measure, text in limits.items() if text is not None}
    budgets = [Budget(per="all", name=name, **given)] if given else []
    # What is of one kernel is kept in it; and a call that the kernel's guard logs is not logged twice.
    own: dict[str, Any] = {"log": None} if alone else {}
    return CostGuard(*budgets, store=MemoryStore(), **own)


def _as_a_line(lines: list[str]) -> list[str]:
    """``%%costguard`` as the first line of the cell itself: its other lines stay what they are, so that ``await``,
    the value of the last one and the numbers in a traceback do.

    https://ipython.readthedocs.io/en/stable/config/inputtransforms.html
    """
    first = lines[0].split() if lines else []
    return [lines[0][1:], *lines[1:]] if first[:1] == [f"%%{NAME}"] else lines


def load(shell: InteractiveShell) -> None:
    """Give a shell the magics."""
    magics = CostGuardMagics(shell)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(_as_a_line)
    shell.events.register("pre_run_cell", magics.before_cell)
    shell.events.register("post_run_cell", magics.after_cell)


def unload(shell: InteractiveShell) -> None:
    """Take them away."""
    magics = shell.magics_manager.registry["CostGuardMagics"]
    magics.detach()
    shell.input_transformers_cleanup.remove(_as_a_line)
    shell.events.unregister("pre_run_cell", magics.before_cell)
    shell.events.unregister("post_run_cell", magics.after_cell)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
