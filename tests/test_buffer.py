"The trajectory buffer under random steps: its bounds hold, everything is accounted for, and a restored one picks the same."
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from motif_repro.core.errors import UserError
from motif_repro.model.generation import Completion
from motif_repro.rl.buffer import TrajectoryBuffer, buffer_metrics, load_buffer, save_buffer
from motif_repro.rl.objective import group_advantages
from motif_repro.rl.rollouts import Trajectory, continued

KNOBS = [dict(max_age=1, max_uses=2), dict(max_age=0, max_uses=1), dict(max_age=3, max_uses=2), dict(max_age=6, max_uses=9, max_rows=10),
         dict(max_age=4, max_uses=3, max_rows=7, age_discount=0.7)]


def fresh(rng, step, num_groups=5, size=4):
    "Groups of answers, some without a reward, some of several authors; a group is begun at one step."
    found = []
    for i in range(num_groups):
        rewards, begun = [rng.choice([0., 1., None]) for _ in range(size)], max(step - rng.choice([0, 0, 2]), 0)
        for r, A in zip(rewards, group_advantages(rewards, size).tolist()):
            t = Trajectory(task_id=f't{step}-{i}', domain='math', step=begun, prompt=[1], ids=[rng.randrange(99)], logps=[-rng.random()],
                           finished=False, verdict='', reward=r, advantage=A)
            found.append(t if begun == step or rng.random() < 0.5 else continued(t, Completion('', [2], [-rng.random()], True), step))
    return found

def one_step(buffer, rng, step):
    "Add and take."
    buffer.add(fresh(rng, step), step)
    return buffer.take(step)

@pytest.mark.parametrize('knobs', KNOBS, ids=str)
def test_bounds_hold_and_every_answer_is_accounted_for(knobs):
    for seed in range(20):
        rng, buffer, uses, alive = random.Random(seed), TrajectoryBuffer(**knobs), Counter(), []
        for step in range(12):
            taken = one_step(buffer, rng, step)
            alive += taken   # an id is its owner's only as long as that lives
            uses.update(map(id, taken))
            assert all(step - min(t.versions) <= buffer.max_age and t.advantage != 0 and t.reward is not None for t in taken)
            if buffer.max_rows: assert len(taken) <= max(buffer.max_rows, 4)
            assert buffer.num_added == 20*(step + 1) == len(buffer.held) + sum(buffer.dropped.values())
            assert sum(v for name, v in buffer_metrics(buffer, step).items() if name.startswith('dropped')) == sum(buffer.dropped.values())
        assert max(uses.values(), default=0) <= buffer.max_uses
        if not buffer.max_rows: assert buffer.max_age == 0 or max(uses.values()) == buffer.max_uses

def test_what_grew_stale_while_nothing_came_in_is_not_taken():
    buffer = TrajectoryBuffer(max_age=2, max_uses=9)
    buffer.add([t for t in fresh(random.Random(0), 5) if t.oldest == 5], 5)
    held = len(buffer.held)
    assert held and len(buffer.take(7)) == held and not buffer.take(8) and buffer.dropped['stale'] == held

def test_every_token_keeps_its_authors_version_and_log_probability():
    rng = random.Random(0)
    for _ in range(50):
        parts = [(version, [-rng.random() for _ in range(rng.randint(1, 4))]) for version in sorted(rng.sample(range(20), 4))]
        (version, logps), *later = parts
        t = Trajectory(task_id='t', domain='math', step=version, prompt=[1], ids=[0]*len(logps), logps=logps, finished=False, verdict='',
                       reward=1., advantage=1.)
        for version, logps in later: t = continued(t, Completion('', [0]*len(logps), logps, False), version)
        expected = [(version, logp) for version, logps in parts for logp in logps]
        assert list(zip(t.versions, t.logps, strict=True)) == expected and t.oldest == parts[0][0] and len(t.ids) == len(expected)

def test_reasons_are_counted_one_by_one():
    for seed in range(20):
        rng, buffer = random.Random(seed), TrajectoryBuffer(max_age=1, max_uses=1)
        answers = fresh(rng, 5)
        buffer.add(answers, 5)
        no_reward = sum(t.reward is None for t in answers)
        no_advantage = sum(t.reward is not None and t.advantage == 0 for t in answers)
        stale = sum(t.reward is not None and t.advantage != 0 and 5 - t.oldest > 1 for t in answers)
        assert buffer.dropped == +Counter(no_reward=no_reward, no_advantage=no_advantage, stale=stale)
        buffer.take(5)
        assert buffer.dropped['used_up'] == 20 - no_reward - no_advantage - stale and not buffer.held

@pytest.mark.parametrize('reuse', [0, 1, 3])
def test_without_max_rows_each_answer_is_used_at_its_step_and_the_next_ones(reuse):
    rng, buffer, seen = random.Random(0), TrajectoryBuffer(max_age=reuse, max_uses=reuse + 1), []
    for step in range(8):
        answers = [t for t in fresh(rng, step) if not t.earlier]
        seen += answers
        buffer.add(answers, step)
        assert buffer.take(step) == [t for t in seen if t.advantage != 0 and step - t.step <= reuse]

@pytest.mark.parametrize('knobs', KNOBS, ids=str)
def test_a_restored_buffer_picks_the_same_from_any_step_on(knobs, tmp_path):
    for stop in range(1, 6):
        rng, buffer = random.Random(stop), TrajectoryBuffer(**knobs, parked=fresh(random.Random(0), 0, 1))
        for step in range(stop): one_step(buffer, rng, step)
        save_buffer(buffer, tmp_path/'buffer.jsonl')
        again, state = load_buffer(tmp_path/'buffer.jsonl', **knobs), rng.getstate()
        assert again == buffer
        picks = []
        for b in (buffer, again):
            rng.setstate(state)
            picks.append([one_step(b, rng, step) for step in range(stop, stop + 6)])
        assert picks[0] == picks[1] and again == buffer and again.parked == buffer.parked

def test_groups_are_taken_whole():
    for seed in range(20):
        rng, buffer = random.Random(seed), TrajectoryBuffer(max_age=5, max_uses=9, max_rows=9)
        for step in range(6):
            buffer.add(fresh(rng, step), step)
            groups = defaultdict(int)
            for h in buffer.held: groups[h.trajectory.task_id] += step - h.trajectory.oldest <= 5
            taken = Counter(t.task_id for t in buffer.take(step))
            assert all(groups[group] == n for group, n in taken.items())

def test_the_most_useful_groups_are_taken():
    def group(name, rewards):
        return [replace(fresh(random.Random(0), 0, 1, 1)[0], task_id=name, reward=r, advantage=A)
                for r, A in zip(rewards, group_advantages(rewards, len(rewards)).tolist())]
    buffer = TrajectoryBuffer(max_age=9, max_uses=1, max_rows=8)
    buffer.add(group('rare', [1., *[0.]*7]) + group('even', [1., 0.]*4) + group('some', [1., 1.] + [0.]*6), 0)
    assert {t.task_id for t in buffer.take(0)} == {'even'}        # mean |A| of 0.94, 0.81 and 0.62
    assert {t.task_id for t in buffer.take(0)} == {'some'}

def test_what_is_left_of_a_failed_save_is_refused(tmp_path):
    path = tmp_path/'buffer.jsonl'
    for content in ('', '{"kind": "counts", "num_added": 3, "dropped": {}, "num_rows": 1}\n', '{"kind": "held"}\n'):
        path.write_text(content)
        with pytest.raises(UserError, match='not a whole trajectory buffer'): load_buffer(path)
    with pytest.raises(UserError, match='name it so'): save_buffer(TrajectoryBuffer(), tmp_path/'buffer.parquet')
