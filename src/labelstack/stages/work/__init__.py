"""What decides the results of the stages that are dear: no word here to MLflow, the report or the terminal.

``compute` of each` reads a stage's inputs and writes its outputs; ``stages/<stage>.py`` stands around it and logs
the run. A stage depends on the code that its ``compute`` reaches (``stages/code.py``), so that what is only logged
or shown reruns nothing.
"""
