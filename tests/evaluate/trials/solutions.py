"""Right and wrong programs for the trials, written by hand: what the graders are tested with."""

DEGREES = {
    "right": "import math\ndef to_degrees(radians):\n    return radians * 180 / math.pi",
    "by the library": "import math\ndef to_degrees(r): return math.degrees(r)",
    "the wrong way round": "import math\ndef to_degrees(radians):\n    return radians * math.pi / 180",
    "rounded": "import math\ndef to_degrees(radians):\n    return round(math.degrees(radians), 2)",
    "pi is 3.14": "def to_degrees(radians):\n    return radians * 180 / 3.14",
    "one turn": "import math\ndef to_degrees(radians):\n    return math.degrees(radians) % 360",
    "a text": "import math\ndef to_degrees(radians):\n    return str(math.degrees(radians))",
    "prints": "import math\ndef to_degrees(radians):\n    print(math.degrees(radians))",
}

_DAC = "def dac_voltage(bits, reference, code):\n"
_CHECK = "    if bits < 1 or not 0 <= code < 2 ** bits:\n        raise ValueError('out of range')\n"
DAC = {
    "right": f"{_DAC}{_CHECK}    return reference * code / 2 ** bits",
    "full scale is the reference": f"{_DAC}{_CHECK}    return reference * code / (2 ** bits - 1)",
    "no check": f"{_DAC}    return reference * code / 2 ** bits",
    "power by xor": f"{_DAC}{_CHECK}    return reference * code / (2 ^ bits)",
    "whole volts": f"{_DAC}{_CHECK}    return reference * code // 2 ** bits",
    "one code too many": f"{_DAC}{_CHECK}    return reference * code / 2**bits".replace(
        "code < 2", "code <= 2"
    ),
    "another error": f"{_DAC}{_CHECK.replace('ValueError', 'KeyError')}    return reference * code / 2**bits",
}

_PTR = "import ipaddress, socket\ndef domain_name(address):\n"
_VALID = "    ipaddress.ip_address(address)\n"
_TRY = "    try:\n        return socket.gethostbyaddr(address)[0]\n    except OSError:\n        return None"
PTR = {
    "right": f"{_PTR}{_VALID}{_TRY}",
    "by getnameinfo": _PTR
    + _VALID
    + _TRY.replace("byaddr(address)", "by").replace(
        "gethostby", "getnameinfo((address, 0), socket.NI_NAMEREQD)"
    ),
    "takes names": f"{_PTR}{_TRY}",
    "lets errors out": f"{_PTR}{_VALID}    return socket.gethostbyaddr(address)[0]",
    "only herror": f"{_PTR}{_VALID}{_TRY.replace('OSError', 'socket.herror')}",
    "returns the tuple": f"{_PTR}{_VALID}{_TRY.replace('[0]', '')}",
    "only IPv4": f"{_PTR}{_VALID.replace('ip_address', 'IPv4Address')}{_TRY}",
    "full name": f"{_PTR}{_VALID}    return socket.getfqdn(address)",
}

MATRIX = {
    "right": "def identity(n):\n    rows = [[int(i == j) for j in range(abs(n))] for i in range(abs(n))]\n"
    "    return [row[::-1] for row in rows] if n < 0 else rows",
    "tuples": "def identity(n):\n    s = abs(n)\n    r = range(s)\n"
    "    return tuple(tuple(int((j if n > 0 else s - 1 - j) == i) for j in r) for i in r)",
    "no mirror": "def identity(n):\n    s = range(abs(n))\n    return [[int(i == j) for j in s] for i in s]",
    "negative numbers": "def identity(n):\n    s = abs(n)\n"
    "    return [[(1 if n > 0 else -1) * int(i == j) for j in range(s)] for i in range(s)]",
    "shared rows": "def identity(n):\n    s = abs(n)\n    rows = [[0] * s] * s\n"
    "    for i in range(s): rows[i][i if n > 0 else s - 1 - i] = 1\n    return rows",
    "only positive": "def identity(n):\n    return [[int(i == j) for j in range(n)] for i in range(n)]",
    "an empty row": "def identity(n):\n    s = abs(n)\n    if s == 0: return [[]]\n"
    "    return [[int((j if n > 0 else s - 1 - j) == i) for j in range(s)] for i in range(s)]",
}

ALTERNATING = {
    "right": """
def longest_alternating(digits):
    best, start = "", 0
    for place in range(len(digits)):
        if place and int(digits[place]) % 2 == int(digits[place - 1]) % 2:
            start = place
        if place + 1 - start > len(best):
            best = digits[start : place + 1]
    return best
""",
    "the last of them": """
def longest_alternating(digits):
    best, start = "", 0
    for place in range(len(digits)):
        if place and int(digits[place]) % 2 == int(digits[place - 1]) % 2:
            start = place
        if place + 1 - start >= len(best):
            best = digits[start : place + 1]
    return best
""",
    "fails on nothing": """
def longest_alternating(digits):
    best = current = digits[0]
    for before, digit in zip(digits, digits[1:]):
        current = current + digit if int(before) % 2 != int(digit) % 2 else digit
        best = current if len(current) > len(best) else best
    return best
""",
    "a subsequence": """
def longest_alternating(digits):
    found = digits[:1]
    for digit in digits[1:]:
        if int(digit) % 2 != int(found[-1]) % 2:
            found += digit
    return found
""",
    "the length": """
def longest_alternating(digits):
    best = length = min(1, len(digits))
    for before, digit in zip(digits, digits[1:]):
        length = length + 1 if int(before) % 2 != int(digit) % 2 else 1
        best = max(best, length)
    return best
""",
    "too slow": """
def longest_alternating(digits):
    best = ""
    for start in range(len(digits)):
        for end in range(start + 1, len(digits) + 1):
            part = digits[start:end]
            if all(int(a) % 2 != int(b) % 2 for a, b in zip(part, part[1:])) and len(part) > len(best):
                best = part
    return best
""",
}

SNAKE = """
import random

STEPS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


class Snake:
    def __init__(self, width, height):
        self.width, self.height = width, height

    def reset(self, seed):
        self.random = random.Random(seed)
        x, y = self.width // 2, self.height // 2
        self.body = [(x, y), (x - 1, y), (x - 2, y)]
        self.score = 0
        self.alive = True
        self._feed()

    def _feed(self):
        free = [(x, y) for x in range(self.width) for y in range(self.height) if (x, y) not in self.body]
        self.food = self.random.choice(free)

    def step(self, direction):
        if not self.alive:
            return
        x, y = self.body[0]
        dx, dy = STEPS[direction]
        if (x + dx, y + dy) == self.body[1]:
            dx, dy = -dx, -dy
        head = (x + dx, y + dy)
        eats = head == self.food
        rest = self.body if eats else self.body[:-1]
        if not (0 <= head[0] < self.width and 0 <= head[1] < self.height) or head in rest:
            self.alive = False
            return
        self.body = [head] + rest
        if eats:
            self.score += 1
            self._feed()
"""

# name → what is exchanged in SNAKE, and the checks that must fail by it; others may
_GROWTH = "self.body if eats else self.body[:-1]"
SNAKE_MISTAKES = {
    "starts elsewhere": ("(x - 1, y), (x - 2, y)]", "(x + 1, y), (x + 2, y)]", {"starts as told"}),
    "a game of chance": ("random.Random(seed)", "random.Random()", {"the same seed gives the same game"}),
    "ignores the seed": ("Random(seed)", "Random(1)", {"another seed gives another game"}),
    "upside down": ('(0, -1), "down": (0, 1)', '(0, 1), "down": (0, -1)', {"moves"}),
    "turns back": ("dx, dy = -dx, -dy", "pass", {"makes no instant reversal"}),
    "stands still instead": ("dx, dy = -dx, -dy", "return", {"makes no instant reversal"}),
    "never grows": (_GROWTH, "self.body[:-1]", {"eats and grows", "dies in itself", "may follow its tail"}),
    "always grows": (_GROWTH, "self.body", {"moves"}),
    "no score": ("self.score += 1", "pass", {"eats and grows"}),
    "the food stays": ("            self._feed()", "            pass", {"eats and grows"}),
    "food under the snake": ("if (x, y) not in self.body]", "if (x, y) in self.body]", {"starts as told"}),
    "walls are doors": ("head = (x + dx, y + dy)", "head = ((x + dx) % self.width, (y + dy) % self.height)",
                        {"dies at the wall"}),
    "one wall is missing": ("head[0] < self.width", "head[0] <= self.width", {"dies at the wall"}),
    "a square board": ("head[1] < self.height", "head[1] < self.width", {"dies at the wall"}),
    "runs through itself": ("or head in rest", "", {"dies in itself"}),
    "bites the leaving tail": ("or head in rest", "or head in self.body", {"may follow its tail"}),
    "rises from the dead": ("if not self.alive:\n            return", "self.alive = True", {"stays dead"}),
}  # fmt: skip
