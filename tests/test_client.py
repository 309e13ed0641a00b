"A real server that misbehaves: what is retried, what is refused, what a killed run asks again; and a served model."
import asyncio, json, os, signal, socket, subprocess, sys, threading, time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from motif_repro.alignment.client import Caller, Endpoint, Request, ask_all, collect_traces, echo_logprobs, find_endpoint
from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows
from motif_repro.tasks.schema import Task


class Handler(BaseHTTPRequestHandler):
    def do_POST(self): self.server.answer(self, json.loads(self.rfile.read(int(self.headers['Content-Length']))))
    def log_message(self, *args): pass

class Server(ThreadingHTTPServer):
    "Answers by streams; `fault(question, times it was asked before)` says what goes wrong."
    daemon_threads = True
    def __init__(self, fault=lambda question, before: None):
        super().__init__(('localhost', 0), Handler)
        self.fault, self.asked, self.bodies, self.keys, self.lock, self.running, self.most = fault, Counter(), [], [], threading.Lock(), 0, 0
        self.times = {}

    def answer(self, call, body):
        question = body['messages'][-1]['content']
        with self.lock:
            before = self.asked[question]
            self.asked[question] += 1
            self.bodies.append(body)
            self.keys.append(call.headers['Authorization'])
            self.times.setdefault(question, []).append(time.monotonic())
            self.running += 1
            self.most = max(self.most, self.running)
        try: self.write(call, self.reply(body), self.fault(question, before))
        except (BrokenPipeError, ConnectionResetError): pass
        finally:
            with self.lock: self.running -= 1

    def reply(self, body): return f"answer to {body['messages'][-1]['content']}"

    def write(self, call, text, fault):
        if isinstance(fault, tuple):
            status, headers, message = fault
            call.send_response(status)
            for name, value in headers.items(): call.send_header(name, value)
            call.end_headers()
            return call.wfile.write(json.dumps(dict(error=dict(message=message))).encode())
        if fault == 'hangs up': return call.connection.shutdown(socket.SHUT_RDWR)
        call.send_response(200)
        call.send_header('Content-Type', 'text/event-stream')
        call.end_headers()
        say = lambda data: (call.wfile.write(f'data: {data}\n\n'.encode()), call.wfile.flush())
        chunk = lambda **choice: json.dumps(dict(id='1', object='chat.completion.chunk', created=0, model='m', choices=[dict(index=0, **choice)]))
        say(chunk(delta=dict(reasoning_content='I think')))
        if fault == 'cut': return
        if fault == 'torn': return call.wfile.write(b'data: {"id": "1", "cho')
        if fault == 'error': return say(json.dumps(dict(error='out of memory')))
        if fault == 'silent': time.sleep(3)
        if fault == 'endless':
            for _ in range(30): (say(chunk(delta=dict(content='and '))), time.sleep(0.1))
        if fault == 'slow': time.sleep(0.15)
        tokens = dict(logprobs=dict(content=[dict(token='answer', logprob=-0.5, top_logprobs=[])])) if fault == 'logprobs' else {}
        say(chunk(delta=dict(content=text), **tokens))
        say(chunk(delta={}, finish_reason='length' if fault == 'long' else 'stop'))
        if fault != 'uncounted': say(json.dumps(dict(id='1', choices=[], usage=dict(prompt_tokens=3, completion_tokens=5, total_tokens=8))))
        say('[DONE]')

@contextmanager
def serving(fault=lambda question, before: None, kind=Server):
    server = kind(fault)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()

def questions(n, **kwargs): return [Request(model='m', messages=[dict(role='user', content=f'q{i}')], **kwargs) for i in range(n)]

def address(server): return f'http://localhost:{server.server_port}/v1'

def ask(server, requests, folder, *, concurrency=4, prices=None, **caller):
    caller = Caller(endpoint=Endpoint('test', address(server), 'k3y'), **(dict(first_wait_s=0.02) | caller))
    replies, ledger = asyncio.run(ask_all(requests, caller, folder/'replies.jsonl', failures=folder/'failures.jsonl', concurrency=concurrency,
                                          prices=prices))
    return replies, ledger, read_rows(folder/'failures.jsonl')


def test_answers_keys_and_costs(tmp_path):
    with serving() as server: replies, ledger, failures = ask(server, questions(5), tmp_path, prices=(2., 10.))
    assert [replies[r.key].text for r in questions(5)] == [f'answer to q{i}' for i in range(5)]
    assert {r.reasoning for r in replies.values()} == {'I think'} and failures == []
    assert (ledger.asked, ledger.prompt_tokens, ledger.completion_tokens, ledger.cost) == (5, 15, 25, (15*2 + 25*10)/1e6)
    assert set(server.keys) == {'Bearer k3y'} and 'k3y' not in (tmp_path/'replies.jsonl').read_text()

def test_tokens_nobody_counted_cost_no_plausible_number(tmp_path):
    with serving(lambda q, n: 'uncounted' if q == 'q1' else None) as server: _, ledger, _ = ask(server, questions(3), tmp_path, prices=(1., 1.))
    assert (ledger.uncounted, ledger.prompt_tokens, ledger.cost) == (1, 6, None)

@pytest.mark.parametrize('fault', [(500, {}, 'oops'), (503, {}, 'busy'), (429, {'Retry-After': '0.1'}, 'slow down'), 'hangs up', 'cut', 'torn', 'error'],
                         ids=str)
def test_what_passes_is_asked_again(tmp_path, fault):
    with serving(lambda q, n: fault if q == 'q1' and n == 0 else None) as server: replies, ledger, failures = ask(server, questions(3), tmp_path)
    assert (len(replies), ledger.retries, failures) == (3, 1, [])
    assert server.asked == Counter(q0=1, q1=2, q2=1)
    assert replies[questions(2)[1].key].text == 'answer to q1'   # nothing of the broken answer is in it

@pytest.mark.parametrize('fault, limits', [('silent', dict(silence_s=1.)), ('endless', dict(limit_s=1.5))])
def test_a_slow_answer_is_asked_for_again(tmp_path, fault, limits):
    "How often is up to the machine: a busy one makes other answers slow, too."
    with serving(lambda q, n: fault if n == 0 else None) as server: replies, ledger, _ = ask(server, questions(1), tmp_path, **limits)
    assert [r.text for r in replies.values()] == ['answer to q0'] and ledger.retries == server.asked['q0'] - 1 > 0

def test_retry_after_is_obeyed(tmp_path):
    with serving(lambda q, n: (429, {'Retry-After': '1.5'}, 'slow down') if n == 0 else None) as server: ask(server, questions(1), tmp_path)
    first, second = server.times['q0']
    assert 1.5 <= second - first < 3

@pytest.mark.parametrize('fault, reason', [((500, {}, 'oops'), 'refused with 500: '), ('cut', 'the stream was cut, 2 times'),
                                           ('silent', 'silent for 1 s, 2 times')], ids=str)
def test_what_never_passes_is_set_aside_and_asked_next_time(tmp_path, fault, reason):
    with serving(lambda q, n: fault if q == 'q1' and n < 2 else None) as server:
        replies, ledger, failures = ask(server, questions(3), tmp_path, max_retries=1, silence_s=1. if fault == 'silent' else 60.)
        assert (len(replies), ledger.failed) == (2, 1)
        assert [row['reason'].startswith(reason) for row in failures] == [True], failures
        replies, ledger, failures = ask(server, questions(3), tmp_path)
    assert (len(replies), ledger.asked, ledger.kept, failures) == (3, 1, 2, [])
    assert server.asked == Counter(q0=1, q1=3, q2=1)

def test_a_refused_question_is_not_asked_twice(tmp_path):
    with serving(lambda q, n: (400, {}, 'too long') if q == 'q2' else None) as server: _, ledger, failures = ask(server, questions(4), tmp_path)
    assert server.asked['q2'] == 1 and failures[0]['reason'] == 'refused with 400: too long'

@pytest.mark.parametrize('status, words', [(401, 'the key is not accepted'), (404, 'unknown model or address')])
def test_what_concerns_all_stops_the_run_and_keeps_its_answers(tmp_path, status, words):
    with serving(lambda q, n: (status, {}, 'no such thing') if q == 'q3' else None) as server:
        with pytest.raises(UserError, match=words) as error: ask(server, questions(50), tmp_path, concurrency=1)
    assert 'no such thing' in str(error.value) and 'k3y' not in str(error.value)
    assert sum(server.asked.values()) == 4 and len(read_rows(tmp_path/'replies.jsonl')) == 3

def test_a_server_that_refuses_everything_stops_the_run(tmp_path):
    with serving(lambda q, n: (400, {}, 'unknown setting top_q')) as server:
        with pytest.raises(UserError, match='the first 8 requests all failed.*unknown setting top_q'): ask(server, questions(100), tmp_path)
    assert sum(server.asked.values()) < 16

def test_nobody_at_home(tmp_path):
    with socket.socket() as s:
        s.bind(('localhost', 0))
        caller = Caller(endpoint=Endpoint('x', f'http://localhost:{s.getsockname()[1]}/v1'), max_retries=0)
        with pytest.raises(UserError, match='connection'):
            asyncio.run(ask_all(questions(20), caller, tmp_path/'r.jsonl', failures=tmp_path/'f.jsonl'))

def test_a_server_without_token_counts_is_asked_without(tmp_path):
    "As transformers serve does, which refuses the option."
    server_refuses = lambda server: lambda q, n: (422, {}, "Unexpected fields: {'stream_options'}") if 'stream_options' in server.bodies[-1] else None
    with serving() as server:
        server.fault = server_refuses(server)
        replies, ledger, _ = ask(server, questions(6), tmp_path, concurrency=1)
    assert len(replies) == 6 and server.asked == Counter(q0=2, q1=1, q2=1, q3=1, q4=1, q5=1)

def test_concurrency_is_bounded(tmp_path):
    with serving(lambda q, n: 'slow') as server: ask(server, questions(24), tmp_path, concurrency=3)
    assert server.most == 3

def test_settings_of_a_server_travel_unchanged(tmp_path):
    with serving() as server: ask(server, questions(1, sampling=dict(temperature=0.6, top_k=20, seed=5), sample=3), tmp_path)
    assert {k: server.bodies[0][k] for k in ('temperature', 'top_k', 'seed', 'model')} == dict(temperature=0.6, top_k=20, seed=8, model='m')

def test_log_probabilities_come_along(tmp_path):
    with serving(lambda q, n: 'logprobs' if q == 'q0' else None) as server: replies, _, _ = ask(server, questions(2, sampling=dict(logprobs=True)), tmp_path)
    assert [replies[r.key].logprobs for r in questions(2, sampling=dict(logprobs=True))] == [[['answer', -0.5]], None]

def test_a_cut_answer_is_no_trace(tmp_path):
    tasks = [Task(id=f't{i}', question=f'q{i}', answer='1') for i in range(3)]
    with serving(lambda q, n: 'long' if q == 'q1' else None) as server:
        traces, ledger = collect_traces(tasks, Caller(endpoint=Endpoint('test', address(server))), 'm', tmp_path)
    assert [t.task_id for t in traces] == ['t0', 't2'] and traces[0].reasoning == 'I think'
    assert [row['reason'] for row in read_rows(tmp_path/'no_traces.jsonl')] == ['cut at 5 tokens; raise max_tokens']

def test_two_tasks_with_one_question_share_its_answer(tmp_path):
    tasks = [Task(id=f't{i}', question='q0', answer='1') for i in range(2)]
    with serving() as server: traces, ledger = collect_traces(tasks, Caller(endpoint=Endpoint('test', address(server))), 'm', tmp_path)
    assert ([t.task_id for t in traces], ledger.asked, server.asked['q0']) == (['t0', 't1'], 1, 1)

def test_echo_is_demanded_not_believed():
    class Completions(Server):
        def answer(self, call, body):
            call.send_response(200)
            call.send_header('Content-Type', 'application/json')
            call.end_headers()
            logprobs = dict(tokens=['2', ' +', ' 3', '?'], token_logprobs=[None, -1.5, -0.5, -3.], text_offset=[0, 1, 3, 5], top_logprobs=[])
            call.wfile.write(json.dumps(dict(id='1', object='text_completion', created=0, model='m', choices=[
                dict(index=0, finish_reason='length', text='2 + 3?', logprobs=logprobs if self.fault else None)])).encode())
    for gives, expected in (True, None), (False, 'echoes no log-probabilities'):
        server = Completions(gives)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        if gives: assert echo_logprobs(['2 + 3'], Endpoint('x', address(server)), 'm')[0].logprobs == [None, -1.5, -0.5]
        else:
            with pytest.raises(UserError, match=expected): echo_logprobs(['2 + 3'], Endpoint('x', address(server)), 'm')
        server.shutdown()
        server.server_close()


CLIENT = """
import asyncio, sys
from motif_repro.alignment.client import Caller, Endpoint, Request, ask_all
requests = [Request(model='m', messages=[dict(role='user', content=f'q{i}')]) for i in range(60)]
address, folder = sys.argv[1:]
asyncio.run(ask_all(requests, Caller(endpoint=Endpoint('x', address)), folder + '/replies.jsonl', failures=folder + '/failures.jsonl', concurrency=3))
"""

def test_a_killed_run_goes_on_where_it_was(tmp_path):
    "Nothing that was answered and kept is asked again; only what was under way may be."
    start = lambda: subprocess.Popen([sys.executable, '-c', CLIENT, address(server), str(tmp_path)])
    with serving(lambda q, n: 'slow') as server:
        process = start()
        while sum(server.asked.values()) < 20: time.sleep(0.02); assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = {json.loads(line)['text'].removeprefix('answer to ') for line in (tmp_path/'replies.jsonl').read_text().splitlines() if line.endswith('}')}
        time.sleep(0.3)
        assert start().wait(timeout=60) == 0
    assert len(kept) >= 10 and set(server.asked) == {f'q{i}' for i in range(60)}
    assert all(server.asked[question] == 1 for question in kept)
    assert sum(server.asked.values()) <= 60 + 3
    assert len({row['key'] for row in read_rows(tmp_path/'replies.jsonl')}) == 60


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    "transformers serve with a tiny random Llama: its address and the model's path."
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from motif_repro.model.loading import save_model
    from motif_repro.model.tokenizer import train_tokenizer
    folder = tmp_path_factory.mktemp('served')
    tokenizer = train_tokenizer(['Calculate 2 + 3.', 'and so on'])
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    save_model(LlamaForCausalLM(config), tokenizer, folder/'model')
    with socket.socket() as s:
        s.bind(('localhost', 0))
        port = s.getsockname()[1]
    log = (folder/'log').open('w')
    process = subprocess.Popen([Path(sys.executable).with_name('transformers'), 'serve', str(folder/'model'), '--port', str(port), '--device', 'cpu'],
                               stdout=log, stderr=log, env=os.environ | dict(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1'))
    try:
        for _ in range(600):
            assert process.poll() is None, (folder/'log').read_text()[-2000:]
            try: urlopen(f'http://localhost:{port}/health', timeout=1).read(); break
            except OSError: time.sleep(0.2)
        yield f'http://localhost:{port}/v1', str(folder/'model')
    finally:
        process.terminate()
        process.wait(timeout=20)

def test_a_served_model(served, tmp_path):
    "The whole way over a server that nobody of us wrote."
    url, model = served
    tasks = [Task(id=f't{i}', question=f'Calculate {i} + 3.', answer='5') for i in range(3)]
    how = dict(num_samples=2, sampling=dict(temperature=1., max_tokens=8, seed=1))
    traces, ledger = collect_traces(tasks, Caller(endpoint=find_endpoint(url)), model, tmp_path, **how)
    none = read_rows(tmp_path/'no_traces.jsonl')
    assert len(traces) + len(none) == 6 and (ledger.asked, ledger.failed) == (6, 0)
    assert ledger.prompt_tokens > 0 and 0 < ledger.completion_tokens <= 6*8
    assert collect_traces(tasks, Caller(endpoint=find_endpoint(url)), model, tmp_path, **how)[1].asked == 0
    texts = [Request(model=model, prompt='Calculate 2', sampling=dict(max_tokens=4))]
    replies, _ = asyncio.run(ask_all(texts, Caller(endpoint=find_endpoint(url)), tmp_path/'texts.jsonl', failures=tmp_path/'failed.jsonl'))
    assert replies[texts[0].key].completion_tokens <= 4 and replies[texts[0].key].finish_reason in ('stop', 'length')
    with pytest.raises(UserError, match='no log-probabilities'): echo_logprobs(['2 + 3'], find_endpoint(url), model)
