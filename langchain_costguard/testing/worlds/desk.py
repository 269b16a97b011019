"""A help desk: what people ask, and which of it a cheap model gets right.

The cheap model, ``gpt-4o-mini``, is good at looking things up and poor at debugging, and each condition in a question
costs it 30 points. The strong one, ``gpt-4o``, is right in 97 % of all cases. Chance does the rest.
"""

from __future__ import annotations

from random import Random

from langchain_costguard.routing.records import Record
from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import Request

TASKS = {
    "look up": (0.97, 80, ["Where is my {thing}?", "When does the {thing} arrive?", "What does a {thing} cost?"]),
    "translate": (0.96, 120, ["Translate '{thing} sold out' into French.", "How do you say {thing} in Polish?"]),
    "summarise": (0.92, 300, ["Summarise the reviews of the {thing}.", "What do people dislike about the {thing}?"]),
    "plan": (0.80, 400, ["Plan the launch of the {thing}.", "Draw up a schedule for making the {thing}."]),
    "debug": (0.55, 500, ["Why does this query return no {thing}?", "Find the bug in the {thing} import script."]),
}
"""By task: how often the cheap model is right, how many tokens an answer has, and what people ask."""
_OFTEN = [30, 20, 20, 20, 10]
CONDITIONS = [
    "but only if it ships from Spain",
    "unless the price went up in May",
    "assuming nobody works on Fridays",
    "except where a voucher was used",
    "provided that stock is below ten",
    "and prove that it is the best",
]
_COLOURS = ["red", "blue", "green", "yellow", "black", "white", "grey", "brown", "pink", "silver", "golden", "striped"]
_THINGS = [
    "kettle",
    "lamp",
    "sofa",
    "blender",
    "violin",
    "mirror",
    "carpet",
    "drill",
    "toaster",
    "clock",
    "vase",
    "rucksack",
    "bicycle",
    "raincoat",
    "telescope",
    "tent",
    "sledge",
    "hammock",
    "ladder",
    "kayak",
    "bench",
]
PRICE = {"gpt-4o-mini": (0.15e-6, 0.60e-6), "gpt-4o": (2.50e-6, 10.00e-6)}
"""USD for a token, in and out."""
_STRONG = 0.97


def question(dice: Random) -> tuple[str, str, int]:
    """Somebody asks something: the task, the prompt, and the number of its conditions."""
    task = dice.choices(list(TASKS), _OFTEN)[0]
    conditions = dice.sample(CONDITIONS, dice.choices([0, 1, 2], [70, 20, 10])[0])
    asked = dice.choice(TASKS[task][2]).format(thing=f"{dice.choice(_COLOURS)} {dice.choice(_THINGS)}")
    return task, ", ".join([asked[:-1], *conditions]) + asked[-1], len(conditions)


def record(dice: Random) -> Record:
    """Both models have answered a question, and somebody has looked at the answers."""
    task, prompt, conditions = question(dice)
    right, length, _ = TASKS[task]
    given, made = 20 + 2 * len(prompt.split()), length * dice.uniform(0.7, 1.3)
    return Record(
        prompt=prompt,
        quality={"gpt-4o-mini": dice.random() < right - 0.3 * conditions, "gpt-4o": dice.random() < _STRONG},
        cost={model: given * rate + made * rate_out for model, (rate, rate_out) in PRICE.items()},
    )


def task_of(prompt: str) -> str:
    """The task that a prompt came from, by its first word."""
    return next(task for task, (*_, asked) in TASKS.items() if any(prompt[:5] == each[:5] for each in asked))


def agent(request: Request) -> Reply:
    """A model that looks an order up where it is asked to, and answers at the length of the task."""
    prompt = next(message["content"] for message in request.messages if message["role"] == "user")
    task = task_of(prompt)
    if task == "look up" and request.messages[-1]["role"] != "tool":
        return Reply(tool_calls=[("find_order", {"what": prompt[:40]})])
    return Reply("An answer of some length.", output_tokens=TASKS[task][1])


def worker(dice: Random) -> object:
    """A model that is right as often as it is said above, and says so: ``Right.`` or ``Wrong.``"""

    def reply(request: Request) -> Reply:
        prompt = request.messages[-1]["content"]
        right, length, _ = TASKS[task_of(prompt)]
        odds = _STRONG if request.model == "gpt-4o" else right - 0.3 * sum(each in prompt for each in CONDITIONS)
        return Reply("Right." if dice.random() < odds else "Wrong.", output_tokens=length)

    return reply
