"""What domains share: one package a kind of task. A domain chooses a task and adds its knowledge."""
