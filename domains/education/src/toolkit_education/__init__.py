"""The education domain: mathematics problems whose every number is computed, checked twice and marked exactly."""
