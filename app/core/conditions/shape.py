"""What a CEL text is made of, seen in one linear pass before any compiler does: names, brackets, comprehensions.

The compiler recurses on brackets and knows no bound on the work that a text may ask for at run time,
so both are judged here, from the text alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_LENGTH = 2_000  # characters
MAX_BRACKETS = 32  # open at one time
MAX_COMPREHENSIONS = 2
MAX_PATTERN = 200  # characters of a pattern for matches()
MAX_REPEATS = 100  # the product of a pattern's counted repetitions


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOTS = _words("event data recipient")
MACROS = _words("all exists exists_one map filter")
FUNCTIONS = MACROS | _words(
    "has size contains startsWith endsWith matches int uint double string bytes type dyn timestamp duration"
    " getFullYear getMonth getDate getDayOfMonth getDayOfYear getDayOfWeek getHours getMinutes getSeconds"
    " getMilliseconds"
)
TYPES = _words("int uint double string bytes bool list map null_type type")
_LITERALS = _words("true false null in")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+ | //[^\n]*)
      | (?P<string>[rRbB]{0,2}(?:'{3}|"{3}|'|"))
      | (?P<number>0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>&&|\|\||[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_COUNTED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")
_BROAD = re.compile(r"\\|\.|\[\^|\(\?")


class ConditionError(ValueError):
    """The condition cannot be used. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.message} (line {self.line}, column {self.column})"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; `kind` is string, number, name or sign; `start` its place in the text."""

    kind: str
    text: str
    start: int


@dataclass(slots=True)
class Comprehension:
    """One all, exists, exists_one, map or filter. `depth` counts from 1, those around it and itself."""

    macro: str
    variable: str
    depth: int
    mentions_root: bool = False


@dataclass(slots=True)
class Shape:
    """What decides the work of one evaluation. Lists are indexed by how many comprehensions stand around.

    `amplifiers` are the signs that can make a value bigger: + and the commas of literals.
    `patterns` holds (depth, weight) of each matches().
    """

    roots: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    comprehensions: list[Comprehension] = field(default_factory=list)
    tokens: list[int] = field(default_factory=lambda: [0] * (MAX_COMPREHENSIONS + 1))
    root_mentions: list[int] = field(default_factory=lambda: [0] * (MAX_COMPREHENSIONS + 1))
    variable_mentions: list[int] = field(default_factory=lambda: [0] * (MAX_COMPREHENSIONS + 1))
    amplifiers: int = 0
    commas: int = 0
    patterns: list[tuple[int, int]] = field(default_factory=list)


def place(text: str, offset: int) -> tuple[int, int]:
    """(line, column) of an offset, both from 1."""
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def shape_of(text: str) -> Shape:
    """Look at a condition. Raises ConditionError for what may not be used, with its place."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"the condition is longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise ConditionError("the condition is empty")
    return _Walk(text).shape


class _Walk:
    """One pass over the tokens, with the open brackets and the comprehension that each belongs to."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.shape = Shape()
        self.tokens = list(_tokens(text))
        self.open: list[Comprehension | None] = []
        for index, token in enumerate(self.tokens):
            self._count(token)
            if token.kind == "name":
                self._name(index, token)
            elif token.kind == "sign":
                self._sign(index, token)

    @property
    def depth(self) -> int:
        return sum(1 for item in self.open if item is not None)

    def _count(self, token: Token) -> None:
        self.shape.tokens[self.depth] += 1
        if token.text == "+":
            self.shape.amplifiers += 1
        elif token.text == ",":
            self.shape.amplifiers += 1
            self.shape.commas += 1

    def _sign(self, index: int, token: Token) -> None:
        if token.text in "([{":
            if len(self.open) >= MAX_BRACKETS:
                raise self._fault(token, f"more than {MAX_BRACKETS} brackets are open here")
            self.open.append(self._comprehension(index) if token.text == "(" else None)
        elif token.text in ")]}" and self.open:
            self.open.pop()

    def _comprehension(self, index: int) -> Comprehension | None:
        """The comprehension that the bracket at `index` opens, if it does."""
        before = self._text(index - 1)
        if self._text(index - 2) != "." or before not in MACROS:
            return None
        if len(self.shape.comprehensions) >= MAX_COMPREHENSIONS:
            fault = f"a condition may hold at most {MAX_COMPREHENSIONS} of all, exists, exists_one, map and filter"
            raise self._fault(self.tokens[index - 1], fault)
        found = Comprehension(before, self._text(index + 1), self.depth + 1)
        self.shape.comprehensions.append(found)
        self.shape.variables.add(found.variable)
        return found

    def _name(self, index: int, token: Token) -> None:
        following = self._text(index + 1)
        if following == "(":
            self._call(index, token)
        elif following == "{":
            raise self._fault(token, f"messages such as {token.text}{{…}} are not known here")
        elif not self._is_field(index):
            self._identifier(token)

    def _is_field(self, index: int) -> bool:
        """Whether this name stands behind the dot of a value; a dot with nothing before it starts from the roots."""
        if self._text(index - 1) != "." or index < 2:
            return False
        before = self.tokens[index - 2]
        return before.text in (")", "]", "}") or (before.kind != "sign" and before.text != "in")

    def _call(self, index: int, token: Token) -> None:
        if token.text not in FUNCTIONS:
            raise self._fault(token, f"there is no function {token.text}()")
        if token.text == "matches":
            self.shape.patterns.append((self.depth, self._pattern_weight(index, token)))

    def _identifier(self, token: Token) -> None:
        around = [item for item in self.open if item is not None]
        if token.text in {item.variable for item in around}:
            self.shape.variable_mentions[self.depth] += 1
        elif token.text in ROOTS:
            self.shape.roots.add(token.text)
            self.shape.root_mentions[self.depth] += 1
            for item in around:
                item.mentions_root = True
        elif token.text not in _LITERALS | TYPES:
            raise self._fault(token, f"{token.text} is not known: use event, data or recipient")

    def _pattern_weight(self, index: int, token: Token) -> int:
        """How heavy a pattern is to compile and run; it must stand in the text, so that this can be known."""
        literal = self.tokens[index + 2] if index + 2 < len(self.tokens) else token
        if literal.kind != "string" or self._text(index + 3) != ")":
            raise self._fault(token, "the pattern of matches() must be written out as one string")
        if len(literal.text) > MAX_PATTERN:
            raise self._fault(literal, f"the pattern is longer than {MAX_PATTERN} characters")
        repeats = 1
        for low, high in _COUNTED.findall(literal.text):
            repeats *= max(1, int(high or low))
        if repeats > MAX_REPEATS:
            raise self._fault(literal, f"the pattern repeats more than {MAX_REPEATS} times in all")
        # A class of Unicode letters is a thousand states, a plain letter is one.
        return len(literal.text) * repeats * (400 if _BROAD.search(literal.text) else 20)

    def _text(self, index: int) -> str:
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def _fault(self, token: Token, message: str) -> ConditionError:
        return ConditionError(message, *place(self.text, token.start))


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None, "the last alternative takes any character"
        end, kind = match.end(), match.lastgroup or ""
        if kind == "string":
            end = _end_of_string(text, match)
        if kind != "space":
            found.append(Token(kind, text[at:end], at))
        at = end
    return found


def _end_of_string(text: str, opening: re.Match[str]) -> int:
    prefix = opening.group().rstrip("'\"")
    quote = opening.group()[len(prefix) :]
    raw, at = "r" in prefix.lower(), opening.end()
    while at < len(text):
        if text[at] == "\\" and not raw:
            at += 2
        elif text.startswith(quote, at):
            return at + len(quote)
        elif text[at] == "\n" and len(quote) == 1:
            break
        else:
            at += 1
    raise ConditionError("this string has no end", *place(text, opening.start()))
