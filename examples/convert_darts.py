"""Speed up somebody else's model with one line: darts' BlockRNNModel.

darts (https://pypi.org/project/darts) is a forecasting library. Its
``BlockRNNModel`` holds an ordinary ``torch.nn.GRU``, ``LSTM`` or ``RNN``
that its user never sees. This script trains such a model from the same seed
as darts makes it and after ``tt.nn.convert``, and compares forecasts and time.

    pip install torch==2.13.0 && pip install "darts[torch]==0.48.1"
    python examples/convert_darts.py                     # a made-up series
    python examples/convert_darts.py --data ETTh1.csv    # your own CSV file
"""

import argparse
import logging
import time
import warnings

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from darts import TimeSeries
from darts.models import BlockRNNModel

import throughtime as tt

HORIZON = 24  # steps forecast at once
QUIET = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
WARM_UP = 5  # training steps left out of the timings, in every run


class ConvertBeforeTraining(pl.Callback):
    """Converts the module that darts builds inside ``fit``, before the optimizer takes its parameters.

    (A model that has been fitted needs no callback: it is at hand as ``forecaster.model``.)
    """

    def setup(self, trainer, module, stage):
        if stage == "fit":  # Lightning calls this for predict, too
            tt.nn.convert(module)


class Clock(pl.Callback):
    """Times every training step, and within it the recurrent layers.

    Forward from hook to hook; backward from the gradient of a layer's output until the last of its parameters has its
    own. Freeing the graph is left out: a lower bound.
    """

    def __init__(self):
        self.losses, self.step_s, self.recurrent_s = [], [], []

    def setup(self, trainer, module, stage):  # comes before the conversion
        named = module.named_modules()
        self.names = [name for name, layer in named if isinstance(layer, torch.nn.RNNBase)]

    def on_train_start(self, trainer, module):  # comes after it
        self.hooks = [h for name in self.names for h in self._watch(module.get_submodule(name))]

    def on_train_end(self, trainer, module):
        for hook in self.hooks:
            hook.remove()

    def _watch(self, layer):
        began = {}

        def start(what):
            began[what] = time.perf_counter()

        def add(what):
            self.spent += time.perf_counter() - began[what]
            start(what)

        def forward_ended(layer, inputs, outputs):
            add("forward")
            if outputs[0].requires_grad:
                outputs[0].register_hook(lambda grad: start("backward"))
                if inputs[0].requires_grad:
                    inputs[0].register_hook(lambda grad: add("backward"))

        yield layer.register_forward_pre_hook(lambda *_: start("forward"))
        yield layer.register_forward_hook(forward_ended)
        for weight in layer.parameters():
            yield weight.register_post_accumulate_grad_hook(lambda _: add("backward"))

    def on_train_batch_start(self, *_):
        self.spent = 0.0
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.step_s.append(time.perf_counter() - self.start)
        self.recurrent_s.append(self.spent)
        self.losses.append(float(outputs["loss"]))


def load(path):
    """Every numeric column of a CSV, or a made-up hourly series: (time, columns)."""
    if path:
        values = pd.read_csv(path).select_dtypes("number").interpolate().dropna().to_numpy()
    else:
        hours, rng = np.arange(6000)[:, None], np.random.default_rng(0)
        day, week = (2 * np.pi * hours / period + np.arange(4) for period in (24, 168))
        values = np.sin(day) * (1 + 0.5 * np.sin(week)) + 0.2 * rng.standard_normal((6000, 4))
    # darts trains in float64 when it is given float64: ask for float32.
    train = values[: int(0.6 * len(values))]
    return ((values - train.mean(0)) / train.std(0)).astype(np.float32)


def train(series, args, converted):
    """A fresh model from the same seed, trained for args.steps; and its clock."""
    clock = Clock()
    forecaster = BlockRNNModel(
        model=args.cell,
        hidden_dim=args.hidden,
        n_rnn_layers=args.layers,
        input_chunk_length=args.input_length,
        output_chunk_length=HORIZON,
        batch_size=args.batch,
        n_epochs=-1,  # as many as max_steps needs
        random_state=0,
        pl_trainer_kwargs={
            "accelerator": "cpu",
            "max_steps": args.steps,
            "callbacks": [clock, ConvertBeforeTraining()] if converted else [clock],
            **dict.fromkeys(QUIET, False),
        },
    )
    return forecaster.fit(series), clock


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a CSV file, rows in time order (default: made-up data)")
    parser.add_argument("--steps", type=int, default=50, help="training steps in a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind, in turns")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--cell", choices=["GRU", "LSTM", "RNN"], default="GRU")
    for name, default in {"hidden": 64, "layers": 2, "input-length": 168, "batch": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if args.steps <= WARM_UP:
        parser.error(f"--steps must exceed the {WARM_UP} of the warm-up")
    torch.set_num_threads(args.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch.utils.data")

    values = load(args.data)
    train_series = TimeSeries.from_values(values[: int(0.6 * len(values))])
    # 32 windows spread over the last fifth, each with the HORIZON steps that follow.
    starts = np.linspace(int(0.8 * len(values)), len(values) - HORIZON, 32).astype(int)
    pasts = [TimeSeries.from_values(values[s - args.input_length : s]) for s in starts]
    truth = values[starts[:, None] + np.arange(HORIZON)]
    last_value = values[starts[:, None] - 1]

    def forecast(forecaster):
        return np.stack([f.values() for f in forecaster.predict(HORIZON, series=pasts)])

    clocks, forecasts, models = {"torch.nn": [], "converted": []}, {}, {}
    for turn in range(args.rounds):  # in turns, so that both meet the same machine
        for name in list(clocks)[:: 1 if turn % 2 == 0 else -1]:
            models[name], clock = train(train_series, args, converted=name == "converted")
            clocks[name].append(clock)
            forecasts[name] = forecast(models[name])

    before, after = models["torch.nn"], models["converted"]
    print(f"darts BlockRNNModel, batch {args.batch}, {args.input_length} steps in, {HORIZON} out")
    print(f"{args.threads} threads: {before.model.rnn} -> {after.model.rnn}")

    # 1. A trained model, converted in place: the same weights, the same forecasts.
    tt.nn.convert(before.model)
    difference = np.abs(forecast(before) - forecasts["torch.nn"]).max()
    print(f"\n1. trained model, before and after conversion: max difference {difference:.1e}")

    # 2. Trained from scratch, each its own way: only rounding tells them apart.
    loss = {name: np.array(clocks[name][0].losses) for name in clocks}
    print(f"\n2. {args.steps} steps of training  {'loss first':>12} {'last':>9} {'test MSE':>10}")
    for name in clocks:
        mse = np.square(forecasts[name] - truth).mean()
        print(f"   {name:<21} {loss[name][0]:12.6f} {loss[name][-1]:9.6f} {mse:10.6f}")
    print(f"   {'repeat last value':<44} {np.square(last_value - truth).mean():10.6f}")
    difference = [np.abs(kind["torch.nn"] - kind["converted"]).max() for kind in (loss, forecasts)]
    print("   max difference: losses {:.1e}, forecasts {:.1e}".format(*difference))

    # 3. and 4. What it costs, and what share of it the recurrent layers take.
    print(f"\n3. ms per training step {'median':>8} {'quartiles':>17} {'4. recurrent share':>20}")
    for name, runs in clocks.items():
        steps = np.concatenate([clock.step_s[WARM_UP:] for clock in runs])
        recurrent = np.concatenate([clock.recurrent_s[WARM_UP:] for clock in runs])
        low, middle, high = 1e3 * np.quantile(steps, [0.25, 0.5, 0.75])
        share = recurrent.sum() / steps.sum()
        print(f"   {name:<20} {middle:8.1f} {low:8.1f} {high:8.1f} {share:19.0%}")
    # Each round's ratio of medians: the two runs of a round are neighbours in time.
    by_round = [
        np.median(old.step_s[WARM_UP:]) / np.median(new.step_s[WARM_UP:]) for old, new in zip(*clocks.values(), strict=True)
    ]
    low, middle, high = np.quantile(by_round, [0, 0.5, 1])
    print(f"   speed-up {middle:.2f}x, median of {args.rounds} rounds ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
