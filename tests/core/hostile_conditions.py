"""Conditions that mean harm, judged in this process: `python -m tests.core.hostile_conditions [seed] [texts]`.

Prints how many were judged and the longest CPU time one took; one that takes over a second is called slow. A crash of
the evaluator ends the process, which is what the test looks at.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import threading
import time

from app.core.conditions import ConditionError, compile_condition

DATA = {"s": "a" * 5_000, "l": list(range(300)), "m": {str(n): [n] * 5 for n in range(50)}, "n": 2**62, "x": None}

_WORDS = r"""
data event recipient data.s data.l data.m data.n data.x x y z true false null 0 1 -1 1.5 1e308 0u 'a' "b" b'c' r'\d'
9223372036854775807 -9223372036854775808 18446744073709551615u 'é' '🙂' '\x00' '\377' '' [ ] ( ) { } . , : ? + - * / %
! == != < <= > in && || .all(x, .exists(y, .map(x, .filter(y, .exists_one(z, size( has( string( int( double( uint(
bytes( timestamp( duration( type( dyn( .matches('(a*)*b') .matches('a{99}') .contains( .startsWith( .getFullYear()
timestamp('9999-12-31T23:59:59Z') duration('9223372036s') duration('-1ns') // \ ' " # @ ` [0] ['a'] {1:2}
"""
PIECES = _WORDS.split()

# Whole texts that make sense, to be cut and crossed: most random ones do not even compile.
SEEDS = r"""
data.l.all(x, x >= 0)
data.l.exists(x, data.l.exists(y, x + y == data.n))
data.m.map(k, data.m[k]).filter(v, v.size() > 3) == []
data.s.contains('aab') || data.s.matches('^a+b$') && !has(data.zzz)
timestamp('2020-01-01T00:00:00Z') + duration('1h') > timestamp(data.n)
[data, data, {'a': data.l}].map(x, [x, x]).size() + int(data.n) * 3 - 1 > 0
data.n > 1 ? data.l[0] == 0 : string(data.n) + data.s != 'x'
""".strip().splitlines()

_MIN = "(-9223372036854775807 - 1)"
NASTY = [
    "data.s" + " + data.s" * 200 + " == ''",
    "data.l" + " + data.l" * 200 + " == []",
    "!" * 1_990 + "true",
    "-" * 1_990 + "1 < 0",
    "data" + ".a" * 900,
    "data" + "[0]" * 600,
    "true" + "&&true" * 330,
    "true" + "?true:true" * 190,
    "1" + "+1" * 999 + ">0",
    "[data].map(x,[x,x,x,x,x,x,x,x]).map(y,[y,y,y,y,y,y,y,y]) == []",
    "data.l.map(x, data.l.map(y, data.l)) == []",
    "[data.s].map(x," + "+".join("x" * 100) + ").map(y," + "+".join("y" * 100) + ").size() > 0",
    "data.m.map(k, data.m[k]).exists(v, v.size() > 3)",
    "data.l.exists(x, data.l.exists(y, x * 1000 + y == -1))",
    "{'a': {'a': {'a': data}}}.a.a.a == data",
    "int(1e300) > 0",
    "9223372036854775807 * 2 > 0",
    "-9223372036854775807 - 2 < 0",
    f"{_MIN} / -1 > 0",
    f"{_MIN} % -1 == 0",
    f"-{_MIN} > 0",
    "timestamp('9999-12-31T23:59:59Z') + duration('9000000000s') > timestamp('2020-01-01T00:00:00Z')",
    "timestamp('0001-01-01T00:00:00Z') - duration('9000000000s') < timestamp('2020-01-01T00:00:00Z')",
    "timestamp('9999-12-31T23:59:59Z') - timestamp('0001-01-01T00:00:00Z') > duration('1s')",
    "duration('9223372036s') + duration('9223372036s') > duration('1s')",
    "duration('99999999999999999999h') > duration('1s')",
    "timestamp('2020-01-01T00:00:00Z').getHours('No/Where') == 1",
    "timestamp('2020-01-01T00:00:00Z').getHours('+99:99') == 1",
    "timestamp(9223372036854775807) > timestamp(0)",
    "'é'[0] == 'x'",
    "data.s.matches('(a|a)*b') || data.s.matches('(a|aa)+$') || data.s.matches('(?:a?){50}a{50}')",
    "uint(-1) == 0u",
    "double('nan') < 1.0",
    "string(data.l) == ''",
    r"string(b'\xff') == ''",
    "[1,2,3][-1] == 1",
    "[1][9223372036854775807] == 1",
]


def made_up(chance: random.Random) -> str:
    """A text that nobody would write."""
    if chance.random() < 0.4:
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 30)))
    else:
        text = chance.choice(SEEDS)
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(text)), chance.choice((0, 0, 1, 3, 8))
            middle = chance.choice((chance.choice(PIECES), chance.choice(SEEDS), f"({chance.choice(SEEDS)})"))
            text = (text[:at] + middle + text[at + length :])[:2_100]
    for opened, closed in ("()", "[]", "{}"):
        text += closed * max(0, text.count(opened) - text.count(closed))
    return text


class Trial:
    """Judges texts and remembers the worst."""

    def __init__(self) -> None:
        self.judged, self.worst = 0, 0.0

    def judge(self, text: str) -> None:
        begun = time.thread_time()  # a busy machine may let it wait
        try:
            held, _ = compile_condition(text).holds({"type": "t", "data": DATA}, DATA, {})
            assert isinstance(held, bool)
            self.judged += 1
        except ConditionError:
            pass
        spent = time.thread_time() - begun
        self.worst = max(self.worst, spent)
        if spent > 1:
            print("slow", round(spent, 3), repr(text))

    def many(self, seed: int, texts: int) -> None:
        chance = random.Random(seed)
        for _ in range(texts):
            self.judge(made_up(chance))


def main(seed: int = 7, texts: int = 3_000) -> None:
    """Judge made-up texts in two threads, then the nasty ones."""
    faulthandler.enable()
    trial = Trial()
    threads = [threading.Thread(target=trial.many, args=(seed + number, texts)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text in NASTY:
        trial.judge(text)
    print(f"judged {trial.judged} worst {trial.worst:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
