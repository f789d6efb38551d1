"""The paper's losses and phases, the state of a run and the loop that trains it."""
