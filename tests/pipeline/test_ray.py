"""The pool of Ray actors: a local cluster of two workers, and what may happen to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from small import LINES, nbest, save_small, small_checkpoint

from rescore.acoustic.loading import EncoderOptions, load_task
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.windows import Windows
from rescore.cli import main
from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.models.checkpoint import save
from rescore.pipeline import Journal, Progress, recognition, score
from rescore.pipeline import ray_pool as ray_pool_module
from rescore.pipeline.ray_cluster import largest_share
from rescore.pipeline.ray_pool import ray_pool
from rescore.pipeline.recognition import posterior_pool, recognise
from rescore.scorers import ScorerOptions, load_scorer

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

#: Ray closes its log files and processes when Python collects them, and warns at any later moment.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file .*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess \\d+ is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WORDS = " ".join(LINES).split()
#: In the environment of everything that the tests start, so that nothing else is taken for it.
MARK = f"DLMRESCORE_TEST_OF={os.getpid()}"
#: A scorer of another package, which ends its process at a text that says so.
DEADLY = """
import os, signal
from rescore.types import Score

class Deadly:
    name, kind, signature = "deadly", "pll", "deadly|1"

    def score(self, lists):
        for nbest in lists:
            if nbest.hyps[0].text == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            values = tuple(-float(len(hyp.text)) for hyp in nbest.hyps)
            yield Score(values, self.signature, self.kind, len(nbest.hyps))

def build(options):
    return Deadly()
"""


def lists(count: int, hyps: int = 4):
    random = np.random.default_rng(0)
    return [
        nbest(
            *(" ".join(random.choice(WORDS, random.integers(0, 12))) for _ in range(hyps)),
            id=f"utt-{number}",
            am=-1.0,
        )
        for number in range(count)
    ]


def processes(*parts: str) -> set[int]:
    """Living processes that the tests started, with these parts in their command lines."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                f"\0{MARK}\0".encode() in b"\0" + (directory / "environ").read_bytes() + b"\0"
                and int(directory.name) != os.getpid()
            ):
                command = (directory / "cmdline").read_bytes().decode(errors="replace")
                found |= {int(directory.name)} if all(part in command for part in parts) else set()
    return found


def wait_until(is_so, seconds: float = 60):
    patience = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < patience
        time.sleep(0.02)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    root = tmp_path_factory.mktemp("plugin")
    (root / "deadly.py").write_text(DEADLY)
    (root / "deadly-1.dist-info").mkdir()
    (root / "deadly-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: deadly\nVersion: 1\n"
    )
    (root / "deadly-1.dist-info" / "entry_points.txt").write_text(
        "[dlmrescore.scorers]\ndeadly = deadly:build\n"
    )
    return root


@pytest.fixture(scope="module")
def environment(plugin):
    """What the processes of a cluster see."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(*MARK.split("="))
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("PYTHONPATH", os.pathsep.join([str(plugin), *filter(None, sys.path)]))
        patched.syspath_prepend(str(plugin))
        yield


@pytest.fixture(scope="module")
def cluster(environment):
    before = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: str(save_small(root / objective, objective)) for objective in ("mdlm", "usdm")
    }


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Every worker has one CPU, and so one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoded(scored):
    return [jsonl.encode(one) for one in scored]


def test_a_run_begun_locally_goes_on_with_ray_to_the_same_bytes_although_a_worker_is_killed(
    cluster, models
):
    few, options = (
        lists(60),
        ScorerOptions(model=models["mdlm"], estimator="nelbo", draws=4, per_token=True),
    )
    with Journal("local.journal") as journal:
        expected = encoded(score(few, load_scorer("mdlm", options), journal=journal))
    with Journal("ray.journal") as journal:
        running = score(few, load_scorer("mdlm", options), journal=journal)
        while len(journal) < 4:
            next(running)
        running.close()
    killed: set[int] = set()

    def advance(_nbest):
        if progress.utterances == 20:
            killed.add(min(processes("ray::_Worker")))
            os.kill(min(killed), signal.SIGKILL)

    progress = Progress(advance=advance)
    with Journal("ray.journal") as journal:
        found = encoded(
            score(
                few,
                load_scorer("mdlm", options),
                journal=journal,
                progress=progress,
                evaluator=ray_pool("mdlm", options, 2),
            )
        )
        assert journal.added == len(journal) - 4
    assert killed
    assert found == expected
    assert Path("ray.journal").read_bytes() == Path("local.journal").read_bytes()
    wait_until(
        lambda: not processes("ray::_Worker")
    )  # the pool has ended its workers, and not the cluster, which is not its own
    assert processes("raylet")


def test_an_error_of_a_worker_is_the_same_line(cluster, tmp_path):
    broken = small_checkpoint("usdm")
    with torch.no_grad():
        for weight in broken.network.parameters():
            weight.fill_(float("nan"))
    save(broken, tmp_path / "nan")
    options = ScorerOptions(
        model="nan", estimator="pll"
    )  # from the working directory, which workers do not have
    with pytest.raises(
        ScoreError, match=r"^utterance utt-\d+, hypothesis \d: the network returned NaN"
    ) as local:
        list(score(lists(60), load_scorer("usdm", options)))
    with pytest.raises(ScoreError) as found:
        list(score(lists(60), load_scorer("usdm", options), evaluator=ray_pool("usdm", options, 2)))
    assert (type(found.value), str(found.value)) == (type(local.value), str(local.value))


def test_a_model_directory_that_changes_during_the_run_is_refused(cluster, tmp_path):
    directory = save_small(tmp_path / "m", "usdm")
    options = ScorerOptions(model=str(directory))
    scorer = load_scorer("usdm", options)
    save_small(directory, "usdm", seed=1)
    with (
        Journal("x.journal") as journal,
        pytest.raises(
            ModelError,
            match=r"^a Ray worker's scorer has signature .*, expected .* changed during the run, ",
        ),
    ):
        list(score(lists(60), scorer, journal=journal, evaluator=ray_pool("usdm", options, 2)))
    assert not Path("x.journal").exists()


def test_a_list_that_kills_every_worker_ends_the_run_in_one_line(cluster, monkeypatch):
    monkeypatch.setattr(ray_pool_module, "RETRIES", 0)
    few = [*lists(20), nbest("die", id="deadly"), *lists(20)]
    with pytest.raises(
        ScoreError,
        match=r"^utterance .*: in the chunk of .* or in one beside it: Ray workers died 1 times \(",
    ) as found:
        list(score(few, "deadly", evaluator=ray_pool("deadly", ScorerOptions(), 2)))
    assert "\n" not in str(found.value)


def test_what_workers_notice_is_said(cluster, models, caplog):
    options = ScorerOptions(model=models["usdm"])
    list(
        score(
            [nbest("the 8 \u4e16", id="u")],
            load_scorer("usdm", options),
            evaluator=ray_pool("usdm", options, 2),
        )
    )
    assert any(
        message.startswith("Ray worker 0: ") and "are unknown to the model's vocabulary" in message
        for message in caplog.messages
    )


def test_what_cannot_be_is_refused(cluster, models):
    options = ScorerOptions(model=models["usdm"])
    scorer = load_scorer("usdm", options)
    with pytest.raises(
        RescoreError,
        match=r"^Ray: 3 workers need a CPU each, and the cluster has 2; ask for fewer workers",
    ):
        list(score(lists(2), scorer, evaluator=ray_pool("usdm", options, 3)))
    with pytest.raises(ScoreError, match="built with per_token=True"):
        list(
            score(
                lists(2),
                scorer,
                evaluator=ray_pool("usdm", ScorerOptions(model=models["usdm"], per_token=True), 2),
            )
        )
    with pytest.raises(ScoreError, match="got a DenoisingScorer, expected a scorer's name"):
        ray_pool(scorer, options, 2)
    with pytest.raises(RescoreError, match="0 workers"):
        ray_pool("usdm", options, 0)


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", r"does not answer \(.*refused\)"), ("head", "expected HOST:PORT")],
)
def test_an_address_where_no_cluster_is_is_refused(environment, monkeypatch, address, message):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RescoreError, match=rf"^Ray at {address}: .*{message}"):
        list(score(lists(1), "deadly", evaluator=ray_pool("deadly", ScorerOptions(), 1, address)))


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RescoreError, match=r"cannot be imported \(.*\); .* pip install '.\[ray\]'"):
        ray_pool("usdm", ScorerOptions(), 2)


@pytest.mark.parametrize(
    ("capacities", "workers", "expected"),
    [
        ([2], 2, 1),
        ([2], 3, 0),
        ([64, 64], 3, 32),
        ([16, 8], 3, 8),
        ([7], 2, 3),
        ([], 1, 0),
        ([0, 4], 1, 4),
    ],
)
def test_workers_share_machines_and_none_goes_across_two(capacities, workers, expected):
    assert largest_share(capacities, workers) == expected


def cli(*arguments):
    # A test run in the background may have switched Ctrl-C off.
    ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    small_chunks = "from rescore.scorers import chunks; chunks.CHUNK = 12"
    code = f"{ctrl_c}; {small_chunks}; from rescore.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "score", *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def interrupted(stop, models, *options):
    """Run the command until it has scored some chunks, stop it, and return what it said."""
    with cli(
        "-",
        "--from",
        "jsonl",
        "--scorer",
        "usdm",
        "--model",
        models["usdm"],
        "-o",
        "out.jsonl",
        "--ray",
        "2",
        *options,
    ) as running:
        for one in lists(200):  # more than the buckets hold back, and no end
            running.stdin.write(jsonl.encode(one) + b"\n")
        running.stdin.flush()
        wait_until(
            lambda: (
                running.poll() is not None
                or (
                    Path("out.jsonl.journal").exists()
                    and Path("out.jsonl.journal").read_bytes().count(b"\n") > 3
                )
            )
        )
        stop(running.pid)
        try:
            status = running.wait(timeout=120)
        finally:
            running.kill()
        message = running.stderr.read().decode().strip()
        running.stdin.close()
        assert status == 130, message
    assert not Path("out.jsonl").exists()
    assert message.startswith("interrupted after ")
    assert message.endswith(
        "the scores so far are in out.jsonl.journal; run the same command again to resume"
    )
    assert len(message.splitlines()) == 1


def test_sigterm_stops_the_command_on_a_running_cluster_and_it_goes_on_without_ray(cluster, models):
    interrupted(
        lambda pid: os.kill(pid, signal.SIGTERM),
        models,
        "--ray-address",
        ray.get_runtime_context().gcs_address,
    )
    wait_until(lambda: not processes("ray::_Worker"))
    scorer = load_scorer("usdm", ScorerOptions(model=models["usdm"]))
    with Journal("out.jsonl.journal") as journal:
        found = encoded(score(lists(200), scorer, journal=journal))
        assert journal.added < len(journal)
    assert found == encoded(score(lists(200), scorer))


def test_ctrl_c_stops_the_command_and_the_cluster_that_it_started(environment, models):
    """As a terminal does it: the signal goes to all processes of the group."""
    before = processes()
    interrupted(lambda pid: os.killpg(pid, signal.SIGINT), models)
    wait_until(lambda: processes() <= before)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--ray-address", "auto"], "give --ray"), (["--ray", "2"], "give -o FILE")],
)
def test_options_that_do_not_go_together_are_refused(models, capsys, monkeypatch, options, message):
    jsonl.write(lists(1), "in.jsonl")
    monkeypatch.setattr(sys, "argv", ["dlmrescore", "score", "in.jsonl", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code, message in capsys.readouterr().err) == (2, True)


def test_posteriors_of_ray_workers_are_those_of_a_local_run(cluster, tmp_path, monkeypatch):
    from hub_ctc_models import save_letters  # noqa: PLC0415 - skips where it cannot be used
    from small_encoder import write_audio  # noqa: PLC0415

    monkeypatch.setattr(recognition, "_CHUNK", 2)
    utterances = [*read_utterances(write_audio(tmp_path, count=6, rate=16000))]
    model = save_letters(tmp_path / "wav2vec2", "wav2vec2")
    options, windows = EncoderOptions(str(model)), Windows(1.0, 0.2)
    recognise(utterances, load_task(options, windows), tmp_path / "local")
    pool = posterior_pool(options, windows, workers=2)
    recognise(utterances, load_task(options, windows), tmp_path / "ray", evaluator=pool)
    assert (tmp_path / "ray").read_bytes() == (tmp_path / "local").read_bytes()
