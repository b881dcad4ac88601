"""How long a run will take, said before it: on a cluster, and on this machine.

An application: it uses subjects as a reader would, and no subject imports it. `cluster` asks the
planner of ``training/distributed-training``; `machine` measures what this machine does in a second,
`work` says what a step computes, `counting` counts what a notebook does.
"""
