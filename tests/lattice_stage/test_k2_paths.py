"""The paths of a lattice and their scores, against enumeration and against k2's own Nbest."""

from __future__ import annotations

import itertools

import k2
import pytest
import torch
from dlm_rescore.paths import check_lattice, sample_paths, word_ids
from dlm_rescore.stage import nbest_decoding
from k2_lattices import (
    SENTENCES,
    ctc_lattice,
    enumerate_paths,
    hlg_lattice,
    letters_to_text,
    snapshot,
    words_to_text,
)

from rescore.errors import ScoreError

BOTH = pytest.mark.parametrize("make", [ctc_lattice, hlg_lattice])


def groups(paths):
    splits = paths.shape.row_splits(1).tolist()
    return [range(a, b) for a, b in itertools.pairwise(splits)]


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_the_best_path_of_each_word_sequence(make, seed):
    lattice = make(["a", "on"], seed=seed, output_beam=3.0)
    paths = sample_paths(lattice, 200, 1.0)
    for utterance, group in enumerate(groups(paths)):
        truth = enumerate_paths(lattice, utterance)
        sampled = {
            tuple(paths.ids[path]): (
                float(paths.totals[path]),
                0.0 if paths.ngram is None else float(paths.ngram[path]),
            )
            for path in group
        }
        assert sampled.keys() <= truth.keys()
        assert max(truth, key=truth.get) in sampled
        for ids, values in sampled.items():
            assert values == pytest.approx(
                truth[ids], rel=1e-5, abs=1e-5
            )  # a float32 sum of some 20 arcs


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_the_best_path_is_that_of_nbest_decoding(make, seed):
    lattice = make(seed=seed)
    paths = sample_paths(lattice, 50, 0.5)
    best = k2.index_fsa(paths.fsa, paths.best(paths.totals))
    expected = nbest_decoding(make(seed=seed), 50, True, 0.5)
    assert word_ids(best) == word_ids(expected)
    assert torch.equal(best.scores, expected.scores)
    assert torch.equal(best.labels, expected.labels)


@BOTH
def test_every_sequence_stands_once_and_as_many_paths_as_sampled_are_none_too_many(make):
    paths = sample_paths(make(), 100, 0.5)
    for group in groups(paths):
        sequences = [tuple(paths.ids[path]) for path in group]
        assert len(set(sequences)) == len(sequences) <= 100


def test_paths_come_in_the_order_of_k2s_own_nbest():
    lattice = hlg_lattice(seed=3)
    nbest = k2.Nbest.from_lattice(hlg_lattice(seed=3), num_paths=80, nbest_scale=0.5)
    paths = sample_paths(lattice, 80, 0.5)
    assert word_ids(nbest.fsa) == paths.ids
    assert nbest.shape.row_splits(1).tolist() == paths.shape.row_splits(1).tolist()


def test_am_and_ngram_add_up_exactly_and_am_is_what_the_acoustics_say():
    paths = sample_paths(hlg_lattice(), 50, 0.5)
    assert torch.equal(paths.am + paths.ngram, paths.totals)
    arcs = k2.RaggedTensor(
        paths.fsa.arcs.shape().remove_axis(1), (paths.fsa.scores - paths.fsa.lm_scores).contiguous()
    ).sum()
    assert torch.allclose(paths.am, arcs.double(), rtol=1e-5)
    assert (paths.ngram < 0).all()


def test_more_paths_than_one_intersection_takes():
    paths = sample_paths(ctc_lattice(), 300, 0.5)
    assert len(paths.ids) > 500
    assert word_ids(paths.fsa) == paths.ids  # cut and joined in order


@BOTH
def test_the_lattice_is_left_as_it_was(make):
    lattice = make()
    before = snapshot(lattice)
    sample_paths(lattice, 50, 0.3)
    assert snapshot(lattice) == before


def test_the_lattice_is_left_as_it_was_when_k2_runs_out_of_memory(monkeypatch):
    lattice = hlg_lattice()
    before = snapshot(lattice)

    def no_memory(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\n more lines")

    monkeypatch.setattr(k2, "random_paths", no_memory)
    with pytest.raises(
        ScoreError,
        match=r"k2 cannot take 50 paths .*CUDA out of memory.* 20.00 GiB\); "
        r"lower num_paths or max-duration",
    ) as raised:
        sample_paths(lattice, 50, 0.3)
    assert "\n" not in str(raised.value)
    assert snapshot(lattice) == before


@BOTH
def test_an_empty_lattice_has_no_paths_and_an_empty_best_one(make):
    lattice = k2.index_fsa(make(), torch.tensor([0, -1, 1], dtype=torch.int32))
    paths = sample_paths(lattice, 20, 0.5)
    assert [len(group) > 0 for group in groups(paths)] == [True, False, True]
    ids = word_ids(k2.index_fsa(paths.fsa, paths.best(paths.totals)))
    assert [len(words) > 0 for words in ids] == [True, False, True]
    assert ids == word_ids(nbest_decoding(lattice, 20, True, 0.5))


@BOTH
def test_a_batch_of_empty_lattices(make):
    paths = sample_paths(k2.index_fsa(make(), torch.tensor([-1, -1], dtype=torch.int32)), 20, 0.5)
    assert word_ids(k2.index_fsa(paths.fsa, paths.best(paths.totals))) == [[], []]
    assert [nbest.hyps for nbest in paths.lists(words_to_text, ["a", "b"])] == [(), ()]


def test_an_empty_hypothesis_is_one_like_any_other():
    log_probs = torch.tensor([[[0.6, 0.3, 0.1]] * 3]).log()
    dense = k2.DenseFsaVec(log_probs, torch.tensor([[0, 0, 3]], dtype=torch.int32))
    lattice = k2.intersect_dense_pruned(k2.ctc_topo(2), dense, 20, 8, 1, 1000)
    paths = sample_paths(lattice, 100, 1.0)
    [nbest] = paths.lists(letters_to_text, ["utt"])
    assert paths.ids[paths.groups()[0][0]] == []
    assert nbest.hyps[0].text == ""
    assert nbest.hyps[0].scores["am"] == pytest.approx(3 * float(torch.tensor(0.6).log()), rel=1e-6)


def test_lists_are_ordered_by_the_total_and_hold_references():
    paths = sample_paths(hlg_lattice(), 50, 0.5)
    lists = paths.lists(words_to_text, ["x", "y", "z"], SENTENCES[:3])
    for nbest in lists:
        totals = [hyp.scores["am"] + hyp.scores["ngram"] for hyp in nbest.hyps]
        assert totals == sorted(totals, reverse=True)
    assert [nbest.ref for nbest in lists] == SENTENCES[:3]
    with pytest.raises(ScoreError, match="there are 2 cut ids for a lattice of 3 utterances"):
        paths.lists(words_to_text, ["x", "y"])


def test_bad_lattices_are_refused_in_one_line():
    lattice = hlg_lattice()
    with pytest.raises(
        ScoreError, match=r"the lattice has 2 axes, expected \[utt\]\[state\]\[arc\]"
    ):
        check_lattice(lattice[0])
    bare = k2.Fsa(lattice.arcs)
    with pytest.raises(ScoreError, match="the lattice has no aux_labels"):
        sample_paths(bare, 10, 1.0)
    with pytest.raises(ScoreError, match="the lattice has no lm_scores"):
        check_lattice(ctc_lattice(), needs_ngram=True)
    with pytest.raises(ScoreError, match="num_paths is 0"):
        sample_paths(lattice, 0, 1.0)
    with pytest.raises(
        ScoreError, match=r"utterance utt: ids_to_text does not know all of \[\d.*give the table"
    ):
        sample_paths(lattice, 10, 1.0).lists(lambda ids: {}[ids[0]], ["utt", "b", "c"])


def test_a_score_that_is_not_finite_names_its_utterance():
    lattice = hlg_lattice()
    first = lattice[0].num_arcs
    lattice.lm_scores[first:] = -float("inf")
    with pytest.raises(
        ScoreError, match=r"utterance 1 of the batch \(from 0\): a path has the lm_score -inf"
    ):
        sample_paths(lattice, 10, 1.0)
