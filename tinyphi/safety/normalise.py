"""Tricks that hide words from a filter, and how each is undone.

    invisible     k·i·l·l      zero-width characters (here ·), marks struck through letters
    direction     >llik<       characters that turn the order of the display around (here > and <)
    letter forms  𝐤𝐢𝐥𝐥 ｋｉｌｌ  Unicode's styled letters (NFKC, and the boxed ones that NFKC leaves)
    homoglyphs    кill         letters of other scripts that look like Latin ones
    leetspeak     k1ll  @ss    digits and signs for letters
    spaced        k.i.l.l      one letter at a time
    base64, hex, escapes, rot13, reversed

The first four are undone in place (`cleaned`), in a way that leaves ordinary writing of any script alone.
The others could be meant as they stand ("mp3", a hash, a list of letters), so undoing them gives further
`readings` beside the one at hand; a filter looks at all of them. Every reading says what was undone.

Sources: Unicode Standard Annex 15 (NFKC); Unicode Technical Standard 39, sec. 4 (confusables).
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

_MOST_READINGS = 12
_DEEPEST = 3  # codes within codes


@dataclass(frozen=True)
class Undone:
    """One trick that was found: its name, and the first place as it was and as it is read."""

    trick: str
    before: str
    after: str


@dataclass(frozen=True)
class Reading:
    """A text as it may be meant, and what was undone to get there."""

    text: str
    undone: tuple[Undone, ...] = ()


def cleaned(text: str) -> Reading:
    """The text without hidden characters and disguised letters. Ordinary text comes back as NFKC."""
    reading = Reading(text)
    for trick, undo in _IN_PLACE.items():
        reading = _after(reading, trick, undo(reading.text))
    return reading


def readings(text: str) -> list[Reading]:
    """The cleaned text first, then what it says if it is a code or leetspeak; at most a dozen."""
    found = [cleaned(text)]
    depth = {found[0].text: 0}
    for reading in found:  # grows while it is walked
        if depth[reading.text] == _DEEPEST:
            continue
        for trick, undo in _OTHERWISE.items():
            other = _after(reading, trick, cleaned(undo(reading.text)).text)
            if other.text not in depth and len(found) < _MOST_READINGS:
                depth[other.text] = depth[reading.text] + 1
                found.append(other)
    return found


def _after(reading: Reading, trick: str, text: str) -> Reading:
    """The reading with `text` instead, and a note if that is different."""
    if text == reading.text:
        return reading
    return Reading(text, (*reading.undone, _first_difference(trick, reading.text, text)))


def _first_difference(trick: str, before: str, after: str, around: int = 12) -> Undone:
    start = next(
        (place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
        min(len(before), len(after)),
    )
    start = max(0, start - around // 2)
    return Undone(trick, before[start : start + 2 * around], after[start : start + 2 * around])


# Undone in place ----------------------------------------------------------------------------------------

_INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff" + "".join(
    map(chr, range(0xFE00, 0xFE10))
)
# Between letters of these scripts they mean nothing. In Persian and Indic scripts and in emoji they do.
_NEEDS_NONE = r"[\x00-\u058f\u1d00-\u1fff\u2100-\u214f\uff00-\uff5e]"
_HIDDEN = re.compile(
    rf"(?<={_NEEDS_NONE})[{_INVISIBLE}]+(?={_NEEDS_NONE}|\Z)|\A[{_INVISIBLE}]+(?={_NEEDS_NONE})"
)
_TAGS = re.compile("(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+")  # 🏴 has tags for flags
_STRUCK = re.compile(r"[\u0334-\u0338\u20d0-\u20dc\u20e5-\u20eb]")  # marks through a letter or around it
_PILED = re.compile(r"([\u0300-\u036f]{2})[\u0300-\u036f]+")  # no language needs three marks on one letter
_MARKED = re.compile(r"(?<=[A-Za-z])[\u0305\u0332\u0333\u033f\u0346-\u034f\u0353-\u0357\u035c-\u0362]+")


def _without_invisible(text: str) -> str:
    text = _HIDDEN.sub("", text)
    text = _TAGS.sub(_from_tags, text)
    return _MARKED.sub("", _PILED.sub(r"\1", _STRUCK.sub("", text)))


def _from_tags(tags: re.Match[str]) -> str:
    """Unicode has a second, invisible ASCII for tags, in which a message can be hidden."""
    return "".join(chr(ord(tag) - 0xE0000) for tag in tags[0] if tag >= "\U000e0020")


_TURNED = re.compile("\u202e([^\u202a-\u202e\u2066-\u2069\n]*)[\u202c\u2069]?")
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def _in_stored_order(text: str) -> str:
    """What a right-to-left override shows, from left to right."""
    return _DIRECTIONS.sub("", _TURNED.sub(lambda turned: turned[1][::-1], text))


_BOXED = {
    ord(character): unicodedata.name(character)[-1]
    for character in map(chr, range(0x1F150, 0x1F18A))
    if unicodedata.name(character, "").startswith(("NEGATIVE CIRCLED LATIN", "NEGATIVE SQUARED LATIN"))
}


def _plain_letters(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_BOXED))


_LOOK_LIKE = {  # Latin letters, and those of other scripts that look like them
    "a": "аαɑᴀ", "b": "Ьвʙƅ", "c": "сᴄ", "d": "ԁɗᴅ", "e": "еєεᴇҽ", "f": "ғꜰƒ", "g": "ɡցɢ", "h": "һհʜ",
    "i": "іιɪıїꙇ", "j": "јϳᴊ", "k": "кκᴋ", "l": "ӏʟ", "m": "мᴍ", "n": "пոηɴ", "o": "оοօᴏσ", "p": "рρᴘ",
    "q": "ԛզ", "r": "гᴦʀ", "s": "ѕꜱ", "t": "тτᴛ", "u": "սυᴜ", "v": "ѵνᴠ", "w": "ԝωᴡա", "x": "хχ",
    "y": "уүʏγ", "z": "ᴢʐ",
    "A": "АΑ", "B": "ВΒ", "C": "С", "E": "ЕΕ", "H": "НΗ", "I": "ІΙ", "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν",
    "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "X": "ХΧ", "Y": "ҮΥ", "Z": "Ζ",
}  # fmt: skip
_LATIN_FOR = {ord(other): latin for latin, others in _LOOK_LIKE.items() for other in others}
_SAME = frozenset("аԁеһіјӏорԛѕսԝхуαονο" + "".join(_LOOK_LIKE[latin] for latin in "ABCEHIJKMNOPSTXYZ"))
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z]")


def _latin_words(text: str) -> str:
    """Latin for words that mix it with look-alikes, or that look Latin letter by letter in a Latin text."""
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    in_latin_text = len(_LATIN.findall(text)) > foreign

    def read(word: re.Match[str]) -> str:
        latin = word[0].translate(_LATIN_FOR)
        disguised = _LATIN.search(word[0]) or (in_latin_text and _SAME.issuperset(word[0]))
        return latin if disguised and latin.isascii() else word[0]

    return _WORD.sub(read, text)


_IN_PLACE: dict[str, Callable[[str], str]] = {
    "direction": _in_stored_order,
    "invisible": _without_invisible,
    "letter forms": _plain_letters,
    "homoglyphs": _latin_words,
}

# Other readings -----------------------------------------------------------------------------------------

_LEET = str.maketrans("01345780@$!|+", "oieastboasilt")
_LEET_WORD = re.compile(r"[A-Za-z0134578@$!|+*]*[A-Za-z][A-Za-z0134578@$!|+]*")


def _from_leet(text: str) -> str:
    """Letters for the digits and signs inside words; numbers and a sign at a word's end stay."""

    def read(word: re.Match[str]) -> str:
        kept = len(word[0].rstrip("!|+"))
        return word[0][:kept].translate(_LEET) + word[0][kept:]

    return _LEET_WORD.sub(read, text)


# Runs of four or more single letters with the same sign between any two: first other signs, then spaces.
_SPACED = [
    re.compile(rf"(?<![^\W_])[^\W\d_](?:({sign})[^\W\d_])(?:\1[^\W\d_]){{2,}}(?![^\W_])")
    for sign in (r"[.\-_*/,]", " ")
]


def _joined(text: str) -> str:
    for spaced in _SPACED:
        text = spaced.sub(lambda run: run[0].replace(run[1], ""), text)
    return text


_BASE64 = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{12,}={0,2}(?![A-Za-z0-9+/=_-])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9A-Fa-f]{2}[ :,]?){6,}(?![0-9A-Za-z])")
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})")


def _from_base64(text: str) -> str:
    def decode(code: re.Match[str]) -> str:
        letters = code[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            return _as_text(base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True), code[0])
        except binascii.Error:
            return code[0]

    return _BASE64.sub(decode, text)


def _from_hex(text: str) -> str:
    def decode(code: re.Match[str]) -> str:
        digits = re.sub(r"^0x|[ :,]", "", code[0])
        rest = code[0][len(code[0].rstrip(" :,")) :]
        return _as_text(bytes.fromhex(digits), code[0].removesuffix(rest)) + rest

    return _HEX.sub(decode, text)


def _as_text(content: bytes, otherwise: str) -> str:
    """The bytes as text if they are text: at least half letters and spaces, and all of it printable."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return otherwise
    readable = sum(character.isalpha() or character.isspace() for character in text)
    printable = all(character.isprintable() or character.isspace() for character in text)
    return text if printable and 2 * readable >= len(text) else otherwise


def _unescaped(text: str) -> str:
    """%6B, &#107;, \\x6b and \\u006b become letters."""
    text = _ESCAPE.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    text = html.unescape(unquote(text))
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text


# The commonest words: who writes English uses some of them, who writes its letters shifted does not.
_COMMON = frozenset(
    "the and for that you are with this have not how what can was but all your from they will make who does "
    "when there about into them some would give tell write please someone people want should get out him her "
    "to of in is it me my do an or be on at as if so we us".split()
)


def _english(text: str) -> float:
    """The share of common words; 0 if there are not at least two."""
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(word in _COMMON for word in words)
    return common / len(words) if common > 1 else 0.0


def _if_english(decode: Callable[[str], str]) -> Callable[[str], str]:
    """Decode each stretch between line breaks and quotes that is more English afterwards than before."""

    def read(part: str) -> str:
        other = decode(part)
        return other if _english(other) > max(0.15, 2 * _english(part)) else part

    return lambda text: "".join(map(read, re.split(r"([\n\"“”:;]+)", text)))


_OTHERWISE: dict[str, Callable[[str], str]] = {
    "escapes": _unescaped,
    "base64": _from_base64,
    "hex": _from_hex,
    "rot13": _if_english(lambda text: codecs.encode(text, "rot13")),
    "reversed": _if_english(lambda text: text[::-1]),
    "spaced": _joined,
    "leetspeak": _from_leet,
}


def tricks() -> Iterator[str]:
    """The names of all tricks, in the order in which they are undone."""
    yield from (*_IN_PLACE, *_OTHERWISE)
