"A training job small enough to be run many times."
from dataclasses import asdict
from pathlib import Path

import torch

from motif_repro.alignment.teachers import solve
from motif_repro.core.rows import write_rows
from motif_repro.model.loading import save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.tasks.math import draw_tasks
from motif_repro.training.trainer import TrainJob


def tiny_job(folder:Path, hidden_size:int, **job)->TrainJob:
    "A job that trains a fresh model in `folder`/whole on 64 short traces."
    traces = [solve(task, 'stepwise') for task in draw_tasks('chain_sum', 3, 64, 'train')]
    write_rows(folder/'traces.jsonl', [asdict(t) for t in traces])
    tokenizer = train_tokenizer([text for t in traces for text in (t.question, t.response)])
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=hidden_size, num_layers=2)), tokenizer, folder/'start')
    return TrainJob(model=str(folder/'start'), traces=str(folder/'traces.jsonl'), out=str(folder/'whole'), seq_len=128, rows_per_step=4,
                    learning_rate=3e-3, **job)
