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
