"What the statistics notebook would bore its readers with: edges, other libraries' answers, hostile values."
import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from motif_repro.core.errors import UserError
from motif_repro.core.stats import (Estimate, bootstrap_ci, finite, interquartile_mean, mean_ci, paired_difference, pass_at_k, rate_ci,
                                    spearman)


@pytest.mark.parametrize('values', ([1., 2.], [0.1, 0.5, 0.2, 0.9, 0.4], np.arange(40)**2))
def test_mean_ci_is_scipys(values):
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_ci(values)
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((np.mean(values), interval.low, interval.high, len(values)))


@pytest.mark.parametrize('estimate', (mean_ci, bootstrap_ci))
def test_one_value_has_no_interval_and_equal_values_one_without_width(estimate):
    assert estimate([0.3]) == Estimate(0.3, -math.inf, math.inf, 1) and estimate([0.3]).ci95 is None
    assert estimate([0.25]*5).ci95 == [0.25, 0.25]


@pytest.mark.parametrize('function', (mean_ci, bootstrap_ci, rate_ci))
@pytest.mark.parametrize('values, words', (([0.1, math.nan], r'\[1\] is nan'), ([math.inf, 0.1], r'\[0\] is inf'), ([], 'at least one'),
                                           ([[0.1, 0.2]], 'one row')))
def test_what_is_no_number_is_refused_by_place(function, values, words):
    with pytest.raises(UserError, match=words): function(values)


def test_finite_names_what_it_reads():
    with pytest.raises(UserError, match=r'^reward\[2\] is nan'): finite([1, 2, math.nan], 'reward')


@pytest.mark.parametrize('n, c', [(n, c) for n in (1, 2, 5, 6) for c in range(n + 1)])
def test_pass_at_k_counts_all_draws(n, c):
    answers = [True]*c + [False]*(n - c)
    for k in range(1, n + 1):
        draws = list(combinations(answers, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws))/len(draws))


def test_pass_at_k_of_many_answers_does_not_overflow():
    assert pass_at_k(5000, 3, 2500) == pytest.approx(1 - 0.5**3, abs=1e-3)
    assert pass_at_k([4, 8], [1, 8], 2) == pytest.approx([0.5, 1])


@pytest.mark.parametrize('n, c, k', ((4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)))
def test_pass_at_k_refuses_the_impossible(n, c, k):
    with pytest.raises(UserError): pass_at_k(n, c, k)


@pytest.mark.parametrize('right, n', [(r, n) for n in (1, 7, 200) for r in (0, 1, n//2, n)])
def test_rate_of_single_answers_is_wilsons(right, n):
    interval = stats.binomtest(right, n).proportion_ci(method='wilson')
    ours = rate_ci([1.]*right + [0.]*(n - right))
    assert ours.ci95 == pytest.approx([interval.low, interval.high], abs=1e-12) and 0 <= ours.low <= ours.value <= ours.high <= 1


def test_answers_to_one_problem_narrow_the_interval_only_where_they_tell_more():
    width = lambda scores, answers: np.diff(rate_ci(scores, answers).ci95)[0]
    all_or_none, mixed = [0., 1.]*50, [0.25, 0.5, 0.5, 0.75]*25
    assert width(all_or_none, 4) == pytest.approx(width(all_or_none, 1))
    assert width(mixed, 4) == pytest.approx(width([0.5]*100, 1)/2, rel=0.02)      # as 400 coins, not more
    with pytest.raises(UserError, match=r'\[0, 1\]'): rate_ci([0.5, 1.5])


def test_differences_are_taken_within_seeds():
    difference = paired_difference({0: 1.0, 1: 2.0, 2: 4.0, 9: 100.}, {2: 3.0, 1: 1.5, 0: 0.0})
    assert (difference.value, difference.n) == (pytest.approx(mean_ci([1, 0.5, 1]).value), 3)
    with pytest.raises(UserError, match='same seeds'): paired_difference({0: 1.}, {})


def test_bootstrap_is_deterministic_and_holds_rows_together():
    x, y = np.random.default_rng(0).normal(size=(2, 60))
    assert bootstrap_ci(x, seed=3) == bootstrap_ci(x, seed=3) != bootstrap_ci(x, seed=4)
    lag = bootstrap_ci(x, x + 1, statistic=lambda a, b, axis: np.mean(b - a, axis))
    assert lag.ci95 == pytest.approx([1, 1])
    assert bootstrap_ci(x, y, statistic=spearman).low < 0 < bootstrap_ci(x, y, statistic=spearman).high


def test_spearman_along_an_axis_with_ties_and_constants():
    x, y = np.random.default_rng(1).integers(0, 5, (2, 7, 30))
    assert spearman(x, y) == pytest.approx([stats.spearmanr(*pair).statistic for pair in zip(x, y)])
    assert spearman([2, 2, 2], [1, 2, 3]) == 0


def test_interquartile_mean_cuts_a_quarter_at_each_end():
    assert interquartile_mean([-1e9, 1, 2, 3, 1e9]) == 2
    assert interquartile_mean(np.arange(16).reshape(2, 8)) == pytest.approx([3.5, 11.5])


def test_format():
    estimate = Estimate(0.123, 0.1, 0.2, 5)
    assert (f'{estimate:.0%}', str(estimate)) == ('12% [10%, 20%]', '0.123 [0.1, 0.2], n = 5')
