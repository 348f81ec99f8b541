"""What a row is: a question to a deployment, and its answer."""

import dataclasses

AS_ASSUMED, NOT, NOT_ASKED = "as assumed", "not", "not asked"


@dataclasses.dataclass
class Answer:
    """The answer to a row, with what was observed, or why it was not asked."""

    outcome: str
    observed: str


@dataclasses.dataclass
class Row:
    """A row of docs/aws-behaviour.md with the status *assumed* or *reported*."""

    id: str
    assumed: str
    ask: object
    slow: bool
    creates: str


ROWS = {}


def row(id, assumed, slow=False, creates=""):
    """Makes a function a row. It takes the target, or what it `creates`, and returns an Answer."""
    def add(ask):
        ROWS[id] = Row(id, assumed, ask, slow, creates)
        return ask

    return add


def holds(condition, observed):
    return Answer(AS_ASSUMED if condition else NOT, observed)


def skip(why):
    return Answer(NOT_ASKED, why)
