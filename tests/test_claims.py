"Every verdict of every kind of rule, every claim by its own rule, bad rows, and the placebo."
import json

import numpy as np
import pytest
from scipy.stats import binom

from motif_repro.core.errors import UserError
from motif_repro.pipeline.claims import (INCONCLUSIVE, NEEDS_GPU, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Claim, error_rate, findings, judge,
                                         judge_all, load_claims, read_claim_rows, shuffled)

CLAIMS = load_claims()


def claim_with(*rule):
    return Claim(id='A1', claim='a test', paper=dict(mark='unpublished', evidence=''), metric='',
                 rule=[dict(reason='a test') | part for part in rule])


def rows_of(claim='A1', device='cpu', **arms):
    "arm = values over seeds 0, 1, 2 …"
    return [dict(claim=claim, arm=arm, seed=seed, value=float(value), device=device)
            for arm, values in arms.items() for seed, value in enumerate(values)]


# One kind of rule at a time

HIGHER = dict(kind='difference', arm='new', baseline='old', margin=0.05)
LOWER  = HIGHER | dict(direction='lower')
WOBBLE = np.array([0.01, -0.01, 0, 0.005, -0.005])

@pytest.mark.parametrize('rule, gain, verdict', (
    (HIGHER, 0.2 + WOBBLE, REPRODUCED), (HIGHER, 0.05 + WOBBLE, INCONCLUSIVE),
    (HIGHER, 0.02 + WOBBLE, NOT_REPRODUCED), (HIGHER, -0.2 + WOBBLE, NOT_REPRODUCED),
    (LOWER, -0.2 + WOBBLE, REPRODUCED), (LOWER, -0.05 + WOBBLE, INCONCLUSIVE),
    (LOWER, -0.02 + WOBBLE, NOT_REPRODUCED), (LOWER, 0.2 + WOBBLE, NOT_REPRODUCED),
    (HIGHER, 0.2 + WOBBLE[:4], INCONCLUSIVE), (HIGHER, -0.2 + WOBBLE[:1], INCONCLUSIVE), (HIGHER, [0.2]*5, INCONCLUSIVE)))
def test_difference(rule, gain, verdict):
    old = np.linspace(0.3, 0.7, len(gain))
    found = judge(claim_with(rule), rows_of(old=old, new=old + gain))
    assert (found['verdict'], found['seeds']) == (verdict, len(gain))
    assert found['effect'] == pytest.approx(np.mean(gain))
    assert (found['ci95'] is None) == (len(gain) == 1)


def test_difference_of_several_arms_is_that_of_their_mean():
    rule = claim_with(HIGHER | dict(arm=['new', 'newer']))
    found = judge(rule, rows_of(old=WOBBLE, new=0.1 + 0*WOBBLE, newer=[0.3]*5))
    assert (found['effect'], found['verdict']) == (pytest.approx(0.2), REPRODUCED)
    assert judge(rule, rows_of(old=WOBBLE, new=0.1 + WOBBLE))['verdict'] == INCONCLUSIVE     # one of the arms is missing


def test_difference_without_baseline_reads_the_value_as_a_change():
    rule = claim_with(dict(kind='difference', arm='balanced', margin=-0.03))
    assert [judge(rule, rows_of(balanced=x + WOBBLE))['verdict'] for x in (0.0, -0.1)] == [REPRODUCED, NOT_REPRODUCED]


def test_unpaired_seeds_are_counted_and_said():
    rows = [row for row in rows_of(old=[0.5]*7, new=0.7 + np.tile(WOBBLE, 2)[:7])
            if (row['arm'], row['seed']) not in {('old', 0), ('new', 3)}]
    [found] = findings(claim_with(HIGHER), rows)
    assert (found.verdict, found.effect.n, found.note) == (REPRODUCED, 5, '2 unpaired left out: 0, 3')
    [found] = findings(claim_with(HIGHER), [row for row in rows if (row['arm'] == 'old') == (row['seed'] < 4)])
    assert found.verdict == INCONCLUSIVE and 'no seed was run in all arms' in found.note


AT_MOST, AT_LEAST = dict(kind='bound', at_most=1.), dict(kind='bound', at_least=2., min_rows=2)

@pytest.mark.parametrize('rule, values, verdict, worst', (
    (AT_MOST, [0.2, 1.0], REPRODUCED, 1.0), (AT_MOST, [0.2, 1.1, 0.4], NOT_REPRODUCED, 1.1),
    (AT_LEAST, [2.0, 5], REPRODUCED, 2.0), (AT_LEAST, [1.9, 5], NOT_REPRODUCED, 1.9),
    (AT_LEAST, [5], INCONCLUSIVE, 5), (AT_LEAST, [1], NOT_REPRODUCED, 1)))
def test_bound(rule, values, verdict, worst):
    found = judge(claim_with(rule), rows_of(layout=values))
    assert (found['verdict'], found['effect'], found['seeds']) == (verdict, worst, len(values))


@pytest.mark.parametrize('low, high, verdict', ((2.1, 3, REPRODUCED), (1.5, 3, INCONCLUSIVE), (0.5, 1.9, NOT_REPRODUCED)))
def test_bound_asks_for_the_whole_interval_of_a_row(low, high, verdict):
    rows = [row | dict(low=low, high=high, value=(low + high)/2) for row in rows_of(layout=[0, 0])]
    found = judge(claim_with(AT_LEAST), rows)
    assert (found['verdict'], found['ci95']) == (verdict, [low, high])


def test_bound_reads_only_its_arms_and_misses_those_that_did_not_run():
    rule = claim_with(AT_MOST | dict(arms=['ours', 'theirs']))
    assert judge(rule, rows_of(ours=[0.5], theirs=[0.7], other=[9]))['verdict'] == REPRODUCED
    assert judge(rule, rows_of(ours=[0.5], other=[9]))['verdict'] == INCONCLUSIVE


def points(strength, rival=0., n=40, arms=('base_a', 'base_b'), claim='A1'):
    rng = np.random.default_rng(7)
    outcome, noise, other = rng.normal(size=(3, n))
    return [dict(claim=claim, arm=arm, seed=i, value=outcome[i] + 0.1*rng.normal(), score=strength*outcome[i] + noise[i],
                 likelihood=rival*outcome[i] + other[i])
            for arm in arms for i in range(n)]

SCORE = dict(kind='correlation', predictor='score', margin=0.5)
LEAD  = SCORE | dict(rivals=['likelihood'], margin=-0.1)

@pytest.mark.parametrize('rule, rows, verdict', (
    (SCORE, points(4), REPRODUCED), (SCORE, points(0), NOT_REPRODUCED), (SCORE, points(0.8), INCONCLUSIVE),
    (SCORE, points(4, n=11), INCONCLUSIVE),
    (LEAD, points(4, rival=1), REPRODUCED), (LEAD, points(0.3, rival=5), NOT_REPRODUCED), (LEAD, points(0.3, rival=0.3), INCONCLUSIVE)))
def test_correlation(rule, rows, verdict):
    found = judge(claim_with(rule), rows)
    assert found['verdict'] == verdict and found['ci95'][0] <= found['effect'] <= found['ci95'][1]


def test_the_strongest_rival_decides():
    rows = [row | dict(rsr=row['value']) for row in points(0.3)]
    [found] = findings(claim_with(LEAD | dict(rivals=['likelihood', 'rsr'])), rows)
    assert (found.verdict, found.note) == (NOT_REPRODUCED, 'smallest lead: over rsr') and found.effect.value < -0.5


def test_correlation_is_averaged_over_arms_not_pooled():
    shift = lambda row: 100*(row['arm'] == 'base_b')
    rows = [row | dict(value=row['value'] + shift(row), score=row['score'] - shift(row)) for row in points(4)]
    assert judge(claim_with(SCORE), rows) == judge(claim_with(SCORE), points(4))


def test_correlation_with_equal_outcomes_or_an_unmeasured_rival_is_inconclusive():
    assert judge(claim_with(SCORE), [row | dict(value=0.) for row in points(4)])['verdict'] == INCONCLUSIVE
    [found] = findings(claim_with(LEAD | dict(rivals=['grace'])), points(4))
    assert (found.verdict, found.note) == (INCONCLUSIVE, 'grace: not measured')


def test_a_gpu_rule_waits_for_a_gpu():
    rule = claim_with(AT_MOST | dict(device='cuda'))
    assert judge(rule, [])['verdict'] == judge(rule, rows_of(x=[0.5]))['verdict'] == NEEDS_GPU
    assert judge(rule, rows_of(x=[0.5], device='cuda'))['verdict'] == REPRODUCED
    assert judge(rule, rows_of(x=[9.], y=[9.]) + rows_of(z=[0.5], device='cuda'))['verdict'] == REPRODUCED


def test_all_parts_must_hold():
    gpu, wide = AT_MOST | dict(device='cuda'), AT_MOST | dict(min_rows=3)
    rows = rows_of(x=[0.5])
    judged = lambda *rule: judge(claim_with(*rule), rows)['verdict']
    assert judged(AT_MOST, AT_MOST) == REPRODUCED
    assert judged(AT_MOST, wide) == INCONCLUSIVE
    assert judged(wide, gpu) == NEEDS_GPU
    assert judged(gpu, wide, dict(kind='bound', at_most=0.1)) == NOT_REPRODUCED
    decides = judge(claim_with(AT_MOST, dict(kind='bound', at_most=0.1, field='value')), rows_of(x=[0.5, 0.7]))
    assert decides['effect'] == 0.7


# The thirteen claims by their own rules

MISFITS = dict.fromkeys(('format', 'verbosity', 'granularity', 'order', 'answer_only', 'mixed'), 0.3)
LEVELS = {  # claim → field → arm → level, where the claim is true
    'A1': dict(value=dict(no_sft=0.5, aligned=0.65, **MISFITS)),
    'A3': dict(value=dict(random=0.3, selected=0.45, rewritten=0.5)),
    'A4': dict(value=dict(static=0.4, moving=0.6), new_skill=dict(static=0.5, moving=0.5)),
    'L3': dict(value=dict(from_start=0.6, late_5=0.1, late_10=0.2, late_20=0.3),
               short=dict(from_start=0.9, late_5=0.9, late_10=0.9, late_20=0.9)),
    'R1': dict(value=dict(no_filter=0.7, band=0.8), zero_advantage=dict(no_filter=0.6, band=0.2)),
    'R2': dict(value=dict(clip_020=0.3, clip_028=0.6), pass_at_8=dict(clip_020=0.6, clip_028=0.7),
               reward=dict(clip_020=0.8, clip_028=0.8)),
    'R3': dict(value=dict(no_reuse=0.7, reuse_plain=0.4, reuse_m2po=0.8),
               drop=dict(no_reuse=0, reuse_plain=0.4, reuse_m2po=0.02)),
    'R4': dict(value=dict(single=-0.2, balanced=0.0)),
}

def runs(claim, noise, equal=False, num_seeds=5):
    "Rows at the levels above; `equal`: all arms at one level, so that the claim is false."
    rng, fields = np.random.default_rng(1), LEVELS[claim]
    level = lambda field, arm: next(iter(fields[field].values())) if equal else fields[field][arm]
    return [dict(claim=claim, arm=arm, seed=seed, **{field: level(field, arm) + noise*rng.normal() for field in fields})
            for arm in fields['value'] for seed in range(num_seeds)]

def style_points(strength, n=48):
    return [row | dict(rsr=-row['score'], grace=0.5*row['likelihood']) for row in points(strength, n=n, claim='A2')]

def layouts(n, worst=3e-7):
    return [dict(claim='L1', arm=f'zero{i % 4}-{i}', seed=0, value=worst if i == 3 else 2e-7, lambda_grad=1e-6, loss=1e-7)
            for i in range(n)]

def plans(low):
    at = lambda arm, value, low=None, high=None, seed=0: dict(claim='L2', arm=arm, seed=seed, value=value, low=low, high=high)
    return [at('whole', 90_000, 80_000, 99_000), *(at(part, 2.) for part in ('sharding', 'sequence_parallel', 'checkpointing')),
            at('loss', 1.2, low, 1.24 + (low > 1)), *(at('planner', 0.03, seed=i) for i in range(60))]

def memory(exponent, peers=4, reach=0.05):
    at = lambda arm, value, seed=0, **own: dict(claim='M1', arm=arm, seed=seed, value=value, **own)
    return [at('growth', exponent, low=exponent - reach, high=exponent + reach), *(at('peers', 0.8, i) for i in range(peers)),
            *(at('accuracy', 1.1, i) for i in range(6))]

def fits(context, batch, reach):
    return [dict(claim='M2', arm=arm, seed=0, value=value, low=value - reach, high=value + reach)
            for arm, value in (('sft_context', context), ('rl_batch', batch))]

OWN = {claim: (runs(claim, 0.003), runs(claim, 0.003, equal=True), runs(claim, 1.)) for claim in LEVELS} | {
    'A2': (style_points(4), style_points(0), style_points(0.8)),
    'L1': (layouts(24), layouts(24, worst=0.36), layouts(23)),
    'L2': ([row | dict(value=2., low=1.5, high=2.2) if row['arm'] == 'loss' else row for row in plans(1.1)], plans(1.0), plans(1.1)),
    'M1': (memory(1.02), memory(1.9), memory(1.02, peers=2)),
    'M2': (fits(4, 6, 0.5), fits(4, 1.2, 0.5), fits(4, 2.2, 0.5)),
}

@pytest.mark.parametrize('claim', CLAIMS)
def test_each_claim_can_get_each_verdict_by_its_own_rule(claim):
    assert [judge(CLAIMS[claim], rows)['verdict'] for rows in OWN[claim]] == [REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE]


@pytest.mark.parametrize('claim, arm, field, loss', (('A4', 'moving', 'new_skill', 0.3), ('L3', 'from_start', 'short', 0.3),
                                                     ('R2', 'clip_028', 'reward', 0.3), ('R3', 'reuse_m2po', 'drop', -0.5),
                                                     ('R4', 'balanced', 'value', 0.1)))
def test_nothing_may_be_bought(claim, arm, field, loss):
    rows = [row | {field: row[field] - loss*(row['arm'] == arm)} for row in OWN[claim][0]]
    assert judge(CLAIMS[claim], rows)['verdict'] == NOT_REPRODUCED


def test_all_claims_in_order_from_the_first_day():
    verdicts = judge_all([])
    assert [v['id'] for v in verdicts] == ['A1', 'A2', 'A3', 'A4', 'L1', 'L2', 'L3', 'R1', 'R2', 'R3', 'R4', 'M1', 'M2']
    assert all(set(v) == {'id', 'verdict', 'effect', 'ci95', 'seeds', 'rule'} and v['verdict'] == NOT_RUN and v['rule'] for v in verdicts)
    verdicts = judge_all(OWN['R4'][0] + OWN['A4'][1])
    assert {v['id']: v['verdict'] for v in verdicts if v['verdict'] != NOT_RUN} == {'A4': NOT_REPRODUCED, 'R4': REPRODUCED}
    json.dumps(verdicts, allow_nan=False)


def test_one_seed_says_nothing_and_stays_json():
    [verdict] = [v for v in judge_all(runs('R4', 0.003, num_seeds=1)) if v['id'] == 'R4']
    assert (verdict['verdict'], verdict['ci95'], verdict['seeds']) == (INCONCLUSIVE, None, 1)
    json.dumps(verdict, allow_nan=False)


def test_every_part_says_why():
    for claim in CLAIMS.values():
        assert claim.paper.evidence and claim.metric and all(len(part.reason) > 5 for part in claim.rule)
        json.dumps(judge(claim, []), allow_nan=False)


# Rows that can't be trusted

GOOD = dict(claim='R4', arm='single', seed=0, value=-0.1)
def without(key): return {k: v for k, v in GOOD.items() if k != key}

BAD = ((dict(GOOD, value=float('nan')), 'value = nan'), (dict(GOOD, value='0.5'), "value = '0.5'"),
       (without('value'), "'value' is missing"), (without('seed'), "'seed' is missing"), (dict(GOOD, seed=1.5), 'seed = 1.5'), (GOOD, 'an earlier row has the same'),
       (dict(GOOD, claim='R9'), "unknown claim; did you mean 'R4'"), (dict(GOOD, arm='balaced'), "unknown arm; did you mean 'balanced'"),
       (dict(GOOD, seed=1, low=0., high=1.), 'outside its own interval'))

@pytest.mark.parametrize('bad, words', BAD)
def test_a_bad_row_is_refused_with_file_and_row(tmp_path, bad, words):
    (tmp_path/'lesson_3').mkdir()
    (path := tmp_path/'lesson_3'/'claim_rows.jsonl').write_text('\n'.join(map(json.dumps, (GOOD, bad))))
    with pytest.raises(UserError) as error: read_claim_rows([tmp_path/'lesson_3'])
    assert str(error.value).startswith(f'{path}, row 2: ') and words in str(error.value)
    with pytest.raises(UserError, match='^claim rows, row 2: '): judge_all([GOOD, bad])
    with pytest.raises(UserError, match='^claim rows, row 2: '): judge(CLAIMS['R4'], [GOOD, bad])


@pytest.mark.parametrize('second', (dict(), dict(new_skill=None), dict(new_skill=float('inf')), dict(new_skill='much')))
def test_a_field_that_the_rule_reads_stands_in_all_rows_or_in_none(second):
    rows = [dict(claim='A4', arm=arm, seed=0, value=0.5) for arm in ('static', 'moving')]
    with pytest.raises(UserError, match='row 2.*new_skill'): judge_all([rows[0] | dict(new_skill=0.5), rows[1] | second])
    assert judge_all(rows)[3]['verdict'] == INCONCLUSIVE


def test_rows_of_all_stages_are_read_and_doubles_are_found_across_them(tmp_path):
    folders = [tmp_path/stage for stage in 'abc']
    for seed, folder in enumerate(folders[:2]):
        folder.mkdir()
        (folder/'claim_rows.jsonl').write_text(json.dumps(GOOD | dict(seed=seed)))
    assert [row['seed'] for row in read_claim_rows(folders)] == [0, 1]
    (folders[1]/'claim_rows.jsonl').write_text(json.dumps(GOOD))
    with pytest.raises(UserError, match='b/claim_rows.jsonl, row 1: .*an earlier row'): read_claim_rows(folders)


@pytest.mark.parametrize('text, words', (('A1: {claim: x}', "A1: key 'paper' is missing"), ('A1: [', 'mend this file'),
                                         (None, 'No such file')))
def test_a_broken_claims_file_is_refused(tmp_path, text, words):
    path = tmp_path/'claims.yaml'
    if text: path.write_text(text)
    with pytest.raises(UserError) as error: load_claims(path)
    assert str(path) in str(error.value) and words in str(error.value)


@pytest.mark.parametrize('rule, words', (
    (dict(kind='bound'), 'either at_most or at_least'), (dict(kind='difference', arm='c', margin=0), "did you mean 'cc'"),
    (dict(kind='guess'), "'guess'"), (dict(kind='difference', arm='cc', margin=0, direction='up'), 'higher|lower')))
def test_an_impossible_rule_is_refused(tmp_path, rule, words):
    claim = dict(claim='x', paper=dict(mark='paper', evidence='y'), metric='z', arms=dict(cc='an arm'), rule=[rule | dict(reason='w')])
    (tmp_path/'claims.yaml').write_text(json.dumps(dict(A1=claim)))
    with pytest.raises(UserError) as error: load_claims(tmp_path/'claims.yaml')
    assert words in str(error.value)


# Placebo

@pytest.mark.parametrize('equal', (False, True), ids=('strong_effect', 'no_effect'))
@pytest.mark.parametrize('claim', LEVELS)
def test_shuffled_arms_are_not_reproduced_more_often_than_chance_allows(claim, equal):
    rng, rows = np.random.default_rng(3), runs(claim, 0.05, equal)
    count = sum(judge(CLAIMS[claim], shuffled(rows, rng))['verdict'] == REPRODUCED for _ in range(200))
    assert count <= binom.ppf(0.999, 200, error_rate(5))


@pytest.mark.parametrize('effect', (0.3, 0.))
def test_the_plainest_rule_keeps_its_error_rate_over_many_experiments(effect):
    rng, rule = np.random.default_rng(5), claim_with(HIGHER | dict(margin=0.))
    rows = lambda: rows_of(old=rng.normal(0, 0.1, 5), new=rng.normal(effect, 0.1, 5))
    count = sum(judge(rule, shuffled(rows(), rng))['verdict'] == REPRODUCED for _ in range(800))
    assert count <= binom.ppf(0.999, 800, error_rate(5))


def test_shuffled_points_predict_nothing():
    rng, rows, rule, count = np.random.default_rng(5), points(4, arms=('base_a',)), claim_with(SCORE | dict(margin=0.)), 0
    for _ in range(40):
        outcomes = rng.permutation([row['value'] for row in rows]).tolist()
        count += judge(rule, [row | dict(value=outcome) for row, outcome in zip(rows, outcomes)])['verdict'] == REPRODUCED
    assert count <= binom.ppf(0.999, 40, 0.025)
