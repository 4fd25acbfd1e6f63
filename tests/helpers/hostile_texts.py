"""Hostile texts: JSON of a run and of labels, landmarks, lists of faces."""

import json

from tests.helpers.hostile import Make


def labels(*pairs) -> bytes:
    return json.dumps({"labels": list(pairs)}).encode()


JSON: dict[str, Make] = {  # what is no object of a run nor a table of labels
    "deep": lambda: b"[" * 200_000,
    "deep and closed": lambda: b"[" * 50_000 + b"]" * 50_000,
    "rather deep": lambda: b'{"config": ' * 900 + b"{}" + b"}" * 900,
    "quite deep": lambda: b'{"config": ' * 500 + b"{}" + b"}" * 500,
    "somewhat deep": lambda: b'{"config": ' * 90 + b"{}" + b"}" * 90,
    "deep objects": lambda: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a long number": lambda: b'{"step": ' + b"9" * 5000 + b"}",
    "a large number": lambda: b'{"step": 1' + b"0" * 400 + b', "loss/gen": 1' + b"0" * 400 + b"}",
    "infinity": lambda: b'{"step": Infinity, "loss/gen": 1e999}',
    "no number": lambda: b'{"step": NaN, "loss/gen": NaN}',
    "a list": lambda: b"[1, 2]",
    "a text": lambda: b'"text"',
    "null": lambda: b"null",
    "another step": lambda: b'{"step": "x", "loss/gen": 1}',
    "a step that is true": lambda: b'{"step": true, "loss/gen": 1}',
    "no UTF-8": lambda: b'{"step": 1, "loss/\xff": 1}',
    "half a character": lambda: b'{"step": 1, "loss/\\ud800": 1, "kind": "\\udfff"}',
    "mathematics": lambda: b'{"step": 1, "loss/$\\\\frac{$": 1, "$a$/b": 1, "kind": "eval"}',
    "a long name": lambda: b'{"step": 1, "loss/' + b"x" * 10**5 + b'": 1}',
    "many names": lambda: json.dumps({"step": 1} | {f"g{n}/a": 1 for n in range(3000)}).encode(),
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1000),
    "UTF-16": lambda: '{"step": 1}'.encode("utf-16"),
}
DRAWN = {kind: make for kind, make in JSON.items() if kind != "many names"}  # which takes a while
LABELS: dict[str, Make] = {
    **JSON,
    "class 10^8": lambda: labels(["a.png", 10**8]),
    "class 10^400": lambda: b'{"labels": [["a.png", 1' + b"0" * 400 + b"]]}",
    "class -1": lambda: labels(["a.png", -1]),
    "class true": lambda: labels(["a.png", True]),
    "class 0.5": lambda: labels(["a.png", 0.5]),
    "a list as class": lambda: labels(["a.png", [0] * 9999]),
    "a list as name": lambda: labels([[0] * 9999, 0]),
    "labels of text": lambda: b'{"labels": "abcdef"}',
    "labels that are a number": lambda: b'{"labels": 5}',
    "names above": lambda: labels(["../../a.png", 0], ["/etc/passwd", 1]),
    "an odd name": lambda: labels(["a\n\x1b[2J.png", "x"]),
    "a long name": lambda: labels(["a" * 10**5, "x"]),
    "many lists": lambda: b'{"labels": [' + b"[]," * 9_000_000 + b"[]]}",
}
_FACE = "30 40 70 40 50 60 35 80 65 80"
LANDMARKS: dict[str, Make] = {
    "a long line": lambda: b"a " * 2**22,
    "a long word": lambda: b"a" * 2**22,
    "large numbers": lambda: b"a.png " + b" ".join([b"1e308", b"-1e308"] * 5),
    "small numbers": lambda: b"a.png " + b" ".join([b"1e-300"] * 10),
    "a hair's breadth": lambda: b"a.png 1 0 0 0 0 0 0 0 0 0",
    "digits": lambda: b"a.png " + b" ".join([b"9" * 5000] * 10),
    "on a line": lambda: b"a.png " + b" ".join(b"%d 0" % n for n in range(5)),
    "infinity": lambda: b"a.png " + b" ".join([b"inf"] * 10),
    "names above": lambda: f"../../a.png {_FACE}".encode(),
    "no UTF-8": lambda: b"\xff\xfe a.png",
    "an odd name": lambda: b"a\x1b[2J.png 1 2",
    "zeros": lambda: bytes(10**6),
    "nothing": lambda: b"",
}
FACES: dict[str, Make] = {  # lists of identities
    "a label of digits": lambda: b"a.png " + b"9" * 5000,
    "a label 2^31": lambda: b"a.png 2147483648",
    "a long line": lambda: b"a " * 2**20,
    "a long word": lambda: b"a" * 2**20,
    "commas": lambda: b"," * 20_000,
    "spaces": lambda: b"a" + b" " * 20_000 + b"b",
    "spaces and commas": lambda: b"a" + b" ,  " * 5000 + b"b",
    "no UTF-8": lambda: b"\xff\xfe",
    "an odd name": lambda: b"a\x1b[2J.png",
    "names above": lambda: b"../../a.png 0",
    "zeros": lambda: bytes(10**5),
    "nothing": lambda: b"",
}
