"""Small lhotse manifests, and lists for their supervisions."""

import gzip
import json

import pytest

from rescore.errors import FormatError
from rescore.types import Hypothesis, NBest

S1 = {
    "id": "s1",
    "recording_id": "r1",
    "start": 4.5,
    "duration": 1.0,
    "channel": 0,
    "text": "c  d",
    "speaker": "x",
    "custom": {"dataset": "dev"},
}
S2 = {
    "id": "s2",
    "recording_id": "r2",
    "start": 0.123456789012345678,
    "duration": 1,
    "channel": [0, 1],
    "text": "é 日本",
    "language": "English",
}
S3 = {"id": "s3", "recording_id": "r3", "start": 0.0, "duration": 1.0, "channel": 0}
RECORDING = {
    "id": "r1",
    "sources": [{"type": "file", "channels": [0], "source": "wav/r1.flac"}],
    "sampling_rate": 16000,
    "num_samples": 160000,
}
CUT = {
    "id": "c1",
    "start": 1.0,
    "duration": 9.0,
    "channel": 0,
    "supervisions": [S1],
    "recording": RECORDING,
    "type": "MonoCut",
}
PADDING = {
    "cut": {"id": "pad", "duration": 3.0, "feat_value": -23.0, "type": "PaddingCut"},
    "type": "PaddingCut",
    "offset": 9.0,
}
MIXED = {
    "id": "c2",
    "tracks": [{"cut": {**CUT, "id": "in", "supervisions": [S2]}, "type": "MonoCut"}, PADDING],
    "type": "MixedCut",
}
EMPTY = {**CUT, "id": "none", "supervisions": []}

META = {"scores": {"mdlm": {"signature": "abc", "kind": "pll", "evaluations": 3}}}


def listed(utterance, *texts, meta=False):
    hyps = tuple(
        Hypothesis(text, {"am": -1.5 - i, "mdlm": -2.0}, {"std_errors": {"mdlm": None}})
        for i, text in enumerate(texts)
    )
    return NBest(utterance, hyps, "another", {"meta": META} if meta else {})


def manifest(path, *records):
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def lines(path):
    data = path.read_bytes()
    return [
        json.loads(line)
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    ]


def views(lists):
    return [
        (nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps])
        for nbest in lists
    ]


def failure(call):
    with pytest.raises(FormatError) as caught:
        call()
    return str(caught.value)
