"""Tasks × algorithms × interfaces × seeds: every combination is a cell, trained, evaluated and kept.

    CELL = TASK-ALGORITHM-INTERFACE-SEED

    OUT/runs/CELL/           an ordinary run, with its report (none for the planner as it comes); of a planner whose
                             constants are tuned, parameters.json and tuning.json, from which it goes on
    OUT/curves/CELL.csv      its learning curve, a row per validation, written when the cell is finished
    OUT/episodes/CELL.csv    every episode of the best policy's evaluation
    OUT/results.csv          a row per finished cell
    OUT/summary.csv, .md     a row per algorithm: interquartile means over seeds with their intervals
    OUT/outcomes.md          what successful episodes came to, where a task tells: lap times, speeds
    OUT/wall-time.md         what a planner costs, where the same learner was trained with and without one
    OUT/learning-TASK.png    success, return and violations over environment steps
    OUT/flights/CELL.csv     of what flies, one flight of the best policy; OUT/flight-TASK.png shows them
    OUT/ablations.md, ablation-NAME.png    of a benchmark of ablations, instead of pictures per task
    OUT/results.lock         while a process writes these

All but `runs/` is small enough to be kept under version control: a cell whose row and curve are there is finished,
whether its run is still there or not, and tables and pictures can be made anew from rows, curves, episodes and flights
alone.
"""
