"""Le et al. 2015, Jozefowicz et al. 2015: recurrent nets that read digits pixel by pixel.

    python experiments/le_2015.py irnn     # ten minutes; writes reports/le_2015
    python experiments/le_2015.py lstm     # four minutes; reports/jozefowicz_2015
    python experiments/le_2015.py reduced  # some seconds, to see that it works

Trains rectified units that start as the identity beside others, tanh units and an LSTM; or LSTMs
over the bias of their forget gates. Checks what the papers say, and writes the report. Further
arguments go to the command.
"""

from study import choose

SWEEPS = {
    "irnn": ("le_2015", ["+sweep=le_2015"]),
    "lstm": ("jozefowicz_2015", ["+sweep=jozefowicz_2015"]),
}
REDUCED = ["seed=0,1", "optimizer.lr=0.001,0.01", "model.width=4", "model.sequence=rows"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
