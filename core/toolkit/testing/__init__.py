"""For authors of plugins: fixtures, tiny data and models, conformance suites. Core never imports it."""
