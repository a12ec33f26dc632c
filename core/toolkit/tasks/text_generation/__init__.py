"""Text in, text out: rows of prompts and completions, their tokens, and the parts that teach a small language model.
Nothing is imported here, so that who reads rows loads no model."""
