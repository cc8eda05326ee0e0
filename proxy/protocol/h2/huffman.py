"""The Huffman code of RFC 7541 Appendix B.

The code is canonical: codes of the same length are in the order of their symbols (§5.2 builds on
that). So the lengths alone say all of it, and the codes are counted up from them.

Decoding goes byte by byte, not bit by bit: a state is a place in the code's tree, and for each
state and byte there is a next state and the symbols that were completed on the way. There are 256
places, so 65,536 such steps, of which real traffic takes a few hundred. They are worked out when
they are first taken and kept up to a bound; a peer that has many of them taken pays with bytes of
its own, and cannot make us hold more.

Pure.
"""

from __future__ import annotations

_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
    "1e"
)
_EOS = 256
# Steps that are kept, of some 150 bytes each; beyond, they are worked out each time.
_MOST_STEPS = 8192


class HuffmanError(Exception):
    """EOS within a string, or an end that is no padding (RFC 7541 §5.2)."""


def _count_codes() -> list[int]:
    codes = [0] * 257
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_LENGTHS)):
        code <<= length - previous
        previous = length
        codes[symbol] = code
        code += 1
    return codes


CODES = _count_codes()
LENGTHS = list(_LENGTHS)

# The tree: each place has two followers, which are places, or symbols as their complement (~s).
_tree: list[list[int]] = [[0, 0]]


def _plant() -> None:
    for symbol, (code, length) in enumerate(zip(CODES, LENGTHS, strict=True)):
        place = 0
        for at in range(length - 1, 0, -1):
            bit = code >> at & 1
            if not _tree[place][bit]:
                _tree.append([0, 0])
                _tree[place][bit] = len(_tree) - 1
            place = _tree[place][bit]
        _tree[place][code & 1] = ~symbol


_plant()


def _padding_places() -> frozenset[int]:
    """Where a string may end: up to seven bits of EOS, which is all ones."""
    places, place = [0], 0
    for _ in range(7):
        place = _tree[place][1]
        places.append(place)
    return frozenset(places)


_ENDS = _padding_places()

# place -> byte -> (next place, symbols)
_steps: list[dict[int, tuple[int, bytes]]] = [{} for _ in _tree]
_kept = 0


def _step(place: int, byte: int) -> tuple[int, bytes]:
    global _kept
    symbols = bytearray()
    start = place
    for at in range(7, -1, -1):
        place = _tree[place][byte >> at & 1]
        if place < 0:
            if ~place == _EOS:
                raise HuffmanError("EOS in a string")
            symbols.append(~place)
            place = 0
    step = place, bytes(symbols)
    if _kept < _MOST_STEPS:
        _kept += 1
        _steps[start][byte] = step
    return step


def decode(data: bytes) -> bytes:
    """The string that ``data`` stands for. Raises `HuffmanError`."""
    steps = _steps
    place = 0
    pieces = []
    for byte in data:
        step = steps[place].get(byte)
        if step is None:
            step = _step(place, byte)
        place, symbols = step
        pieces.append(symbols)
    if place not in _ENDS:
        raise HuffmanError("a string ends with what is no padding")
    return b"".join(pieces)


def encode(data: bytes) -> bytes:
    """``data`` in the code, padded with ones."""
    bits = count = 0
    for byte in data:
        length = LENGTHS[byte]
        bits = bits << length | CODES[byte]
        count += length
    rest = -count % 8
    return (bits << rest | (1 << rest) - 1).to_bytes((count + rest) // 8, "big")


def encoded_size(data: bytes) -> int:
    """How many bytes `encode` would give."""
    return (sum(map(LENGTHS.__getitem__, data)) + 7) // 8
