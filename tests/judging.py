"Rewards of a user, for the tests: one that is sound, and one with every mistake in it."
import os, sys, time


def begins_with_a_number(task, response):
    first = response.strip()[:1]
    if first == '\ufffd': raise ValueError('half a character')
    return first.isdigit()

def fails(task, response):
    "By the task's id: raises at some answers, hangs, floods output and memory, dies."
    if task.id == 'hangs': time.sleep(60)
    if task.id == 'floods':
        while True: print('x'*1000, file=sys.stderr), print('x'*1000)
    if task.id == 'fills': return len('x'*2**40)
    if task.id == 'dies': os._exit(1)
    found = response.strip()[:1].isdigit()
    if task.id == 'raises' and not found: raise KeyError('no number')
    return found
