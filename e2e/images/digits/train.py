"""Trains a classifier of handwritten digits with PyTorch DDP, one process a pod.

The data are those of prepare.py beside this file: what it has written, or the same made anew. Accuracy is measured on the
images that are held out, and on those alone.

Who is rank 0 and where it listens comes from the environment, as torch.distributed reads it: RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT. Rank 0 reports to /dev/termination-log, where Kubernetes and TrainingJobs look for it.
"""

import argparse
import json
import os
import signal
import threading
import time
from datetime import timedelta

import network
import prepare
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def datasets(folder):
    parts = [prepare.read(folder, part) for part in ("train", "held-out")] if folder else prepare.split()
    train, held_out = [(torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)) for pixels, labels in parts]
    return TensorDataset(*train), held_out


def end_on_sigterm():
    """Ends this process when Kubernetes asks for it.

    As process 1 of its container it would not hear SIGTERM at all, and a handler would be called only when PyTorch
    returns to Python, which it may not do while a peer is missing. So a thread waits for the signal.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait():
        signal.sigwait({signal.SIGTERM})
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def save(path, model, optimizer, epoch, loss):
    """Whole or not at all, so that a kill leaves the last checkpoint in place."""
    state = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "loss": loss}
    torch.save(state, path + ".partial")
    os.replace(path + ".partial", path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--learning-rate", type=float, default=0.003)
    arguments.add_argument("--hidden", type=int, default=64, help="neurons of the hidden layer")
    arguments.add_argument("--data", help="the folder that prepare.py has written to")
    arguments.add_argument("--model", help="a folder for the trained network")
    arguments.add_argument("--checkpoint", help="a file to save to after each epoch, and to go on from")
    arguments.add_argument("--pause", type=float, default=0, help="seconds to wait after each epoch")
    options = arguments.parse_args()
    end_on_sigterm()

    torch.manual_seed(0)
    # The default of 30 minutes is how long a run would hang when a peer vanishes without a word.
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank, world = dist.get_rank(), dist.get_world_size()
    attempt = os.environ.get("TRAINYARD_ATTEMPT", "1")
    print(f"rank {rank} of {world} has joined, attempt {attempt}", flush=True)

    train, (test_pixels, test_labels) = datasets(options.data)
    layers = [torch.nn.Linear(64, options.hidden), torch.nn.ReLU(), torch.nn.Linear(options.hidden, 10)]
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    sampler = DistributedSampler(train)
    loader = DataLoader(train, batch_size=options.batch_size, sampler=sampler)
    first, loss = 1, torch.tensor(float("nan"))
    if options.checkpoint and os.path.exists(options.checkpoint):
        state = torch.load(options.checkpoint)
        model.module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, loss = state["epoch"] + 1, state["loss"]
        print(f"rank {rank} goes on at epoch {first}", flush=True)

    def accuracy():
        with torch.no_grad():
            right = model.module(test_pixels).argmax(dim=1) == test_labels
        return right.double().mean().item()

    for epoch in range(first, options.epochs + 1):
        sampler.set_epoch(epoch)
        total, started = torch.zeros(1), time.monotonic()
        for pixels, labels in loader:
            optimizer.zero_grad()
            batch_loss = torch.nn.functional.cross_entropy(model(pixels), labels)
            batch_loss.backward()
            optimizer.step()
            total += batch_loss.detach()
        loss = total / len(loader)
        dist.all_reduce(loss)
        loss /= world
        if rank == 0:
            seconds = time.monotonic() - started
            print(f"epoch {epoch:2}  loss {loss.item():.4f}  accuracy {accuracy():.4f}  {seconds:.2f} s", flush=True)
            if options.checkpoint:
                save(options.checkpoint, model, optimizer, epoch, loss)
        time.sleep(options.pause)

    if rank == 0:
        results = {"accuracy": round(accuracy(), 4), "loss": round(loss.item(), 4), "epochs": options.epochs}
        results |= {"firstEpoch": first, "heldOut": len(test_labels), "world": world}
        if options.model:
            linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
            pairs = [(layer.weight.tolist(), layer.bias.tolist()) for layer in linear]
            results["digest"] = network.write(options.model, pairs)
        with open("/dev/termination-log", "w") as log:
            json.dump(results, log)
        print(f"accuracy on {len(test_labels)} held-out images: {results['accuracy']}", flush=True)
    # Nobody leaves before everybody is done: a peer that goes early looks like a failure to the others.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
