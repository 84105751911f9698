"""Making artifacts: the scheduler, workers, how each stage computes, and where: in this process, in others, on Ray."""
