"Constraints: what holds, what doesn't, what is broken, and what a hostile response costs."
import time

import pytest

from motif_repro.tasks.instructions import CONSTRAINTS, IFEVAL, contradictions, parse_constraint, parse_constraints, verify_instructions
from motif_repro.tasks.schema import Task

# type, parameters, texts for which it holds, texts for which it doesn't
CASES = [
    ('num_words', dict(count=3), ['one two three', "don't well-known 3rd", ' a\nb\tc '], ['one two', 'a b c d', '... ! ?', 'a-b-c']),
    ('num_words', dict(count=2, relation='at most'), ['one', 'one two'], ['one two three']),
    ('num_words', dict(count=2, relation='more than'), ['one two three'], ['one two']),
    ('num_sentences', dict(count=2), ['One. Two!', 'Is it 3.5? Yes', 'What?! No.'], ['One.', 'One. Two. Three.', 'no end']),
    ('num_paragraphs', dict(count=2), ['a\n\nb', 'a\na\n \n\nb\n', 'a\n***\nb'], ['a\nb', 'a', 'a\n\nb\n\nc']),
    ('num_bullets', dict(count=2), ['* a\n* b', 'x\n - a\n• b'], ['* a', '*a\n*b', '* a\n* b\n* c', '*\n*']),
    ('num_highlights', dict(count=1), ['a *b c* d', '**bold**'], ['a', '* a *', '*a', '*a* *b*']),
    ('num_placeholders', dict(count=2), ['[a] and [b]'], ['[a]', '[]', '[[a]']),
    ('letter_frequency', dict(letter='e', count=2), ['eE', 'see'], ['e', 'x']),
    ('letter_frequency', dict(letter='E', count=2, relation='less than'), ['e', 'x'], ['ee']),
    ('uppercase', {}, ['A B, 1!', 'ÄÖ'], ['a', 'Ab', '123', '!']),
    ('lowercase', {}, ['a b, 1!'], ['A', 'aB', '123']),
    ('title_case', {}, ['The Cat in the Hat', 'A 3rd Cat'], ['The cat', '123', 'a the of']),
    ('required_words', dict(words=['cat', 'big dog']), ['a Cat and a BIG  dog', 'big\ndog, cat'], ['cat', 'concat big dog', 'cat bigdog']),
    ('required_words', dict(words=['cat'], count=2, relation='exactly'), ['cat Cat'], ['cat', 'cat cat cat', 'cats cat']),
    ('forbidden_words', dict(words=['cat']), ['concat cats', 'dog'], ['a CAT', 'cat']),
    ('word_order', dict(words=['red', 'sun', 'red']), ['Red sun, red moon'], ['red sun', 'sun red red', 'redsun red']),
    ('forbidden_characters', dict(characters='xY'), ['abc'], ['X', 'y', 'axb']),
    ('no_comma', {}, ['a b; c'], ['a, b', '1,000', 'a，b']),
    ('start', dict(text='The cat'), ['the cat', '  The  CAT sat', 'The cat.'], ['The cats', 'A cat', 'xThe cat']),
    ('start', dict(text='"'), ['"Hi"', ' "'], ['Hi "']),
    ('end', dict(text='!'), ['Hi!', '! '], ['Hi', '!?']),
    ('end', dict(text='rain'), ['the RAIN', 'in rain.', '"rain!"'], ['brain', 'rain it', 'rai']),
    ('end', dict(text='Any more questions?'), ['So. Any more  questions?', 'any more questions'], ['more questions?']),
    ('repeat', dict(text='red sun', count=3), ['red sun red sun red sun', 'Red sun. RED SUN, red\nsun!'], ['red sun red sun', 'red red red sun sun sun', 'red sun '*4, 'a red sun red sun red sun']),
    ('json', {}, ['{}', '[1, 2]', '```json\n{"a": 1}\n```', '"x"', ' 3 '], ['', '{a: 1}', "{'a': 1}", '{"a": 1} and more', 'NaN', '[Infinity]', '```json\n{}']),
    ('json', dict(keys=['a', 'b']), ['{"a": 1, "b": null}'], ['{"a": 1}', '["a", "b"]', '"ab"', '{"c": {"a": 1, "b": 2}}']),
    ('title', {}, ['<<My title>> text'], ['<title>', '<<>>', '<< >>', 'title', '<<a\nb>>']),
    ('paragraph_start', dict(count=2, nth=2, word='Rain'), ['a b\n\nrain falls', 'a\n\n "Rain" it is\n\n'], ['rain\n\na', 'a\n\nrainy', 'a\n\nb\n\nrain', 'rain']),
    ('postscript', dict(mark='P.S.'), ['Bye.\nP.S. One more', 'bye\n\np.s: more', '**P.S.** more', 'P. S. more'], ['P.S.', 'caps lock', 'ps more', 'p.salm', 'Bye. P.S. more']),
    ('postscript', dict(mark='P.P.S'), ['x\nP.P.S more', 'P.P.S. more'], ['P.S. more', 'pps more']),
    ('one_of', dict(answers=['My answer is yes.', 'My answer is no.']), ['So: my answer is No.', 'My answer is yes. Indeed'], ['yes', 'My answer is nothing']),
    ('num_sections', dict(word='Section', count=2), ['Section 1\na\nSection 2\nb', 'Section1 Section2 Section 3'], ['Section 1', 'Sections', 'SECTION 1 SECTION 2', 'Intersection 1 Section 2']),
    ('num_capitals', dict(count=2, relation='less than'), ['one WORD', 'none'], ['TWO WORDS', 'I AM']),
    ('two_responses', {}, ['a\n******\nb', 'a******b'], ['a\n******\na', 'a', 'a******b******c', '******a', '']),
    ('quotation', {}, ['"a b"', '“a”'], ['a', '"a', '""', 'a "b"']),
]

@pytest.mark.parametrize('kind,parameters,right,wrong', CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_constraint(kind, parameters, right, wrong):
    constraint = parse_constraint(dict(type=kind, **parameters))
    assert [t for t in right if not constraint.holds(t)] == [] == [t for t in wrong if constraint.holds(t)]

def test_every_kind_is_tried(): assert {c[0] for c in CASES} == set(CONSTRAINTS) and len(CONSTRAINTS) >= 12

@pytest.mark.parametrize('row', [
    {'type': 'length_constraints:number_words', 'num_words': 3, 'relation': 'at least'}, {'type': 'length_constraints:number_sentences', 'num_sentences': 3, 'relation': 'less than'},
    {'type': 'length_constraints:number_paragraphs', 'num_paragraphs': 3}, {'type': 'detectable_format:number_bullet_lists', 'num_bullets': 3},
    {'type': 'detectable_format:number_highlighted_sections', 'num_highlights': 3}, {'type': 'detectable_content:number_placeholders', 'num_placeholders': 3},
    {'type': 'keywords:letter_frequency', 'letter': 'a', 'let_frequency': 3, 'let_relation': 'at least'}, {'type': 'keywords:existence', 'keywords': ['a', 'b']},
    {'type': 'keywords:frequency', 'keyword': 'a', 'frequency': 3, 'relation': 'at least'}, {'type': 'keywords:forbidden_words', 'forbidden_words': ['a']},
    {'type': 'change_case:english_capital'}, {'type': 'change_case:english_lowercase'}, {'type': 'detectable_format:json_format'}, {'type': 'detectable_format:title'},
    {'type': 'startend:quotation'}, {'type': 'startend:end_checker', 'end_phrase': 'bye'}, {'type': 'punctuation:no_comma', 'unused': None},
    {'type': 'length_constraints:nth_paragraph_first_word', 'num_paragraphs': 3, 'nth_paragraph': 2, 'first_word': 'so'}, {'type': 'detectable_content:postscript', 'postscript_marker': 'P.S.'},
    {'type': 'combination:two_responses'}, {'type': 'combination:repeat_prompt', 'prompt_to_repeat': 'Write a poem.'}, {'type': 'detectable_format:multiple_sections', 'section_spliter': 'Part', 'num_sections': 3},
    {'type': 'change_case:capital_word_frequency', 'capital_frequency': 3, 'capital_relation': 'at least'}, {'type': 'detectable_format:constrained_response'}])
def test_ifeval_names_are_understood(row): assert parse_constraint(row).type == IFEVAL[row['type']][0]

@pytest.mark.parametrize('row,words', [
    ({'type': 'num_word', 'count': 3}, "did you mean 'num_words'?"), ({'type': 'num_words', 'cuont': 3}, "unknown key 'cuont'; did you mean 'count'?"),
    ({'type': 'num_words'}, "key 'count' is missing"), ({'type': 'num_words', 'count': 2.5}, 'count = 2.5'), ({'type': 'num_words', 'count': -1}, 'count = -1'),
    ({'type': 'num_words', 'count': True}, 'count = True'), ({'type': 'num_words', 'count': 3, 'relation': 'around'}, "relation = 'around'"),
    ({'type': 'repeat', 'text': 'a', 'count': 10**9}, 'count = 1000000000'), ({'type': 'start', 'text': ''}, "text = ''"), ({'type': 'end', 'text': ' '}, "text = ' '"), ({'type': 'letter_frequency', 'letter': 'ab', 'count': 1}, "letter = 'ab'"),
    ({'type': 'required_words', 'words': 'cat'}, "words = 'cat'"), ({'type': 'required_words', 'words': ['cat', 3]}, 'words.1'), ({'type': 3}, "not of the form"), ({'count': 3}, "not of the form"), (['num_words'], "not of the form")])
def test_what_is_broken_is_named(row, words):
    with pytest.raises(ValueError) as error: parse_constraint(row)
    assert words in str(error.value)
    task = Task(id='t', domain='instructions', question='q', metadata=dict(constraints=[row])) if isinstance(row, dict) and 'type' in row else None
    if task: assert (verify_instructions(task, 'a').verdict, verify_instructions(task, 'a').reward) == ('invalid_row', None)

def test_all_must_hold_and_the_thought_does_not_count():
    task = Task(id='t', domain='instructions', question='q', metadata=dict(constraints=[dict(type='num_words', count=2), dict(type='no_comma'), dict(type='uppercase')]))
    check = lambda response: verify_instructions(task, response)
    assert check('<think>one, two, three</think>RED SUN').reward == 1
    assert [check(r).verdict for r in ('', '<think>RED SUN', '<think>RED SUN</think>', '<think>RED SUN</think> \n')] == ['no_answer']*4
    assert check('RED, sun').detail == 'not met: no_comma; uppercase'

@pytest.mark.parametrize('rows,num', [
    ([dict(type='num_words', count=5), dict(type='num_words', count=6)], 1), ([dict(type='num_words', count=5), dict(type='num_sentences', count=6)], 0),
    ([dict(type='num_words', count=5, relation='less than'), dict(type='num_words', count=4, relation='more than')], 1),
    ([dict(type='num_words', count=5, relation='at most'), dict(type='num_words', count=5, relation='at least')], 0),
    ([dict(type='num_words', count=0, relation='less than'), dict(type='num_words', count=0, relation='less than')], 1),
    ([dict(type='letter_frequency', letter='a', count=1, relation='exactly'), dict(type='letter_frequency', letter='b', count=2, relation='exactly')], 0),
    ([dict(type='num_sections', word='Section', count=3, relation='exactly'), dict(type='num_sections', word='Part', count=2, relation='exactly')], 0),
    ([dict(type='required_words', words=['cat']), dict(type='forbidden_words', words=['CAT'])], 1), ([dict(type='end', text='no x'), dict(type='forbidden_characters', characters='X')], 1),
    ([dict(type='required_words', words=['cat'], relation='at most'), dict(type='forbidden_words', words=['cat'])], 0), ([dict(type='uppercase'), dict(type='lowercase')], 1)])
def test_contradictions(rows, num): assert len(contradictions(parse_constraints(rows))) == num

FLOODS = ['a'*10**5, 'a '*50_000, '.'*10**5 + 'a', ', '*50_000, '*a'*50_000, '* ' + ' '*10**5, '<<' + 'a'*10**5, '<<'*50_000, '['*10**5, '[a'*50_000, '{"a":'*20_000, '9'*10**5, '\n'*10**5 + 'a',
          "a'"*50_000, 'a-'*50_000, 'red  sun '*10_000, ' '*10**5 + 'a', '```json\n'*10_000, '"' + '\\'*10**5, '\x00'*10**5, 'cat'*30_000, 'cat' + ' '*10**5 + 'ca']

def test_floods_cost_their_length():
    constraints = parse_constraints([dict(type=kind, **parameters) for kind, parameters, *_ in CASES] + [dict(type='required_words', words=['cat dog', 'red sun moon'])])
    slowest = {}
    for flood in FLOODS:
        for constraint in constraints:
            start = time.process_time()
            constraint.holds(flood)
            slowest[str(constraint), flood[:10]] = time.process_time() - start
    assert max(slowest.values()) < 1, max(slowest, key=slowest.get)
