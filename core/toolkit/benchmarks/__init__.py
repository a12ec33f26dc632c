"""Public benchmarks of language models, put and scored as lm-eval (github.com/EleutherAI/lm-evaluation-harness)
does."""
