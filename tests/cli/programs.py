"""Programs that the tests run under the command. They say one line to stdout for each thing they do."""

MODEL = """
from langchain_costguard.testing import ScriptedChatModel
model = ScriptedChatModel(replies=["four little words here"], usage=(1_000, 100), max_tokens=100)
"""

WELL_BEHAVED = (
    """
import sys
print("argv", *sys.argv)
"""
    + MODEL
    + """
print(model.invoke("hi").content)
"""
)

SPENDS = (
    MODEL
    + """
import sys, time
pause = float(sys.argv[1]) if len(sys.argv) > 1 else 0
for number in range(1, 1_000):
    model.invoke("hi")
    print("call", number, flush=True)
    time.sleep(pause)
"""
)

READS_ITS_METRICS = (
    MODEL
    + """
import sys
from urllib.request import urlopen
model.invoke("hi")
served = ""
while "costguard_cost_usd_total{" not in served:  # counted behind the calls
    served = urlopen(sys.argv[1]).read().decode()
print(served)
model.invoke("hi")
"""
)

CATCHES = (
    MODEL
    + """
import sys
from langchain_costguard import CostGuardError
try:
    while True:
        model.invoke("hi")
except CostGuardError:
    print("caught")
    sys.exit(7)
"""
)

WRAPS = (
    MODEL
    + """
try:
    while True:
        model.invoke("hi")
except Exception as error:
    raise LookupError("no answer") from error
"""
)

FAILS = """
import sys
def inner():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("of my own") from error
print("before")
print(sys.argv, sys.path[0], __file__, __name__, __spec__, __package__, sys.modules["__main__"].__dict__ is globals())
inner()
"""

DOES_NOT_PARSE = "x = (\n"

LEAVES_THREADS = """
import atexit, pickle, sys, threading, time
class Thing: pass
def late():
    time.sleep(0.2)
    print("late", len(pickle.dumps(Thing())) > 0)
atexit.register(lambda: print("exit", pickle.loads(pickle.dumps(Thing())).__class__.__name__))
threading.Thread(target=late).start()
print("main is over")
sys.exit("no good")
"""

MODULE = {
    "pkg/__init__.py": "",
    "pkg/tool.py": "import sys\nprint(sys.argv[1:], sys.path[0], __name__, __spec__.name, __package__)\nsys.exit(5)\n",
    "pkg/__main__.py": "import sys\nfrom pkg import tool\n",
}

ENDS_AT_ONCE = (
    MODEL
    + """
import os, signal, sys, time
model.invoke("hi")
print("asked", flush=True)
if sys.argv[1] == "exit":
    os._exit(7)
if sys.argv[1] == "terminate":
    os.kill(os.getppid(), signal.SIGTERM)  # whoever started us is told to end
time.sleep(30)
"""
)

POOL = (
    MODEL
    + """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)  # never shut down
print([job.result().content for job in [pool.submit(model.invoke, "hi") for _ in range(3)]][0])
"""
)

WORKERS = """
import multiprocessing, subprocess, sys
def work(number):
    from langchain_costguard.testing import ScriptedChatModel
    try:
        ScriptedChatModel(usage=(1_000, 100), max_tokens=100).invoke("hi")
    except Exception as error:
        return type(error).__name__
    return "ok"
if __name__ == "__main__":
    if sys.argv[1] == "exec":
        run = [sys.executable, "-c", "import program; print(program.work(0))"]
        told = [subprocess.run(run, capture_output=True, text=True).stdout.strip() for _ in range(2)]
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            told = pool.map(work, range(4), chunksize=1)
    print(*sorted(told))
"""

LEAVES_THE_GUARD = """
import os, subprocess, sys
subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
subprocess.run([sys.executable, "-c", "pass"], env={"PATH": os.environ["PATH"]}, check=True)
subprocess.run(["true"], env={}, check=True)
"""

ASKS = (
    MODEL
    + """
import sys, time
class Slow(type(model)):
    def _generate(self, *args, **kwargs):
        time.sleep(0.5)
        return super()._generate(*args, **kwargs)
model = Slow(replies=["well"], usage=(1_000, 100), max_tokens=100)
while (said := input("you> ")) != "bye":
    print("bot:", model.invoke(said).content)
print("last? ", end="", flush=True)
print("heard", sys.stdin.readline().strip())
"""
)

OWN_GUARD = """
from langchain_costguard import CostGuard
from langchain_costguard.testing import FakeProvider

with FakeProvider("fine") as provider:
    provider.openai().invoke("hello", config={"callbacks": [CostGuard()]})
"""
"""A program with a guard of its own."""
